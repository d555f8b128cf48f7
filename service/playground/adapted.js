// The second step: what an adaptation brought.

import { $, el, svg } from "./dom.js";
import { number, percent, t } from "./text.js";

const WIDTH = 300, HEIGHT = 96, LEFT = 34, BOTTOM = 18, TOP = 8;

/** Shows a version; `answer` is that of adapt or of examples, or a stored task. */
export function show(answer, checkpoints) {
  const card = $("adapted");
  card.hidden = false;
  $("adapted-lead").textContent = t("adapted.lead", {
    task: answer.task, version: answer.version, n: answer.n_support, classes: answer.labels.length,
  });
  const name = checkpoints.find(({ fingerprint }) => fingerprint === answer.checkpoint)?.name;
  const figures = [
    ["adapted.left_out", answer.leave_one_out_accuracy, percent],
    ["adapted.support", answer.support_accuracy, percent],
    ["adapted.time", answer.elapsed_ms, (ms) => t("adapted.ms", { n: number(ms) })],
    ["adapted.size", answer.bytes, (bytes) => t("adapted.kb", { n: number(bytes / 1024, 1) })],
    ["adapted.checkpoint", checkpoints.length > 1 ? name : null, (words) => words],
  ].filter(([, value]) => value !== null && value !== undefined);
  $("adapted-figures").replaceChildren(
    ...figures.map(([key, value, form]) => el("div", {}, el("dt", {}, t(key)), el("dd", {}, form(value)))),
  );
  $("losses").replaceChildren(...(answer.losses ? curve(answer.losses) : []));
  $("losses").hidden = !answer.losses;
  const warnings = answer.warnings ?? [];
  $("warnings").replaceChildren(...warnings.map(({ detail }) => el("li", { lang: "en" }, detail)));
  $("warnings").hidden = !warnings.length;
}

function curve(losses) {
  const last = losses.length - 1;
  if (last < 1) return [el("figcaption", {}, t("adapted.no_steps"))];
  const words = t("adapted.losses", { first: number(losses[0], 3), last: number(losses[last], 3), n: last });
  const most = Math.max(...losses), least = Math.min(0, ...losses);
  const x = (step) => LEFT + ((WIDTH - LEFT - 6) * step) / last;
  const y = (loss) => TOP + ((HEIGHT - TOP - BOTTOM) * (most - loss)) / (most - least || 1);
  const points = losses.map((loss, step) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(least), y2: y(least) }),
    svg("text", { x: LEFT - 6, y: y(most) + 4, "text-anchor": "end" }, number(most, 2)),
    svg("text", { x: LEFT - 6, y: y(least) + 4, "text-anchor": "end" }, number(least, least ? 2 : 0)),
    svg("text", { x: x(0), y: HEIGHT - 4 }, "0"),
    svg("text", { x: x(last), y: HEIGHT - 4, "text-anchor": "end" }, String(last)),
    svg("polyline", { class: "curve", points: points.join(" ") }),
    svg("circle", { class: "dot", cx: x(0), cy: y(losses[0]), r: 3 }),
    svg("circle", { class: "dot", cx: x(last), cy: y(losses[last]), r: 3 }));
  return [drawing, el("figcaption", { "aria-hidden": "true" }, words)];
}
