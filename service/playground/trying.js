// The third step: probabilities as you type.

import * as api from "./api.js";
import * as code from "./code.js";
import { $, announce, button, el, shown, short } from "./dom.js";
import { number, percent, t } from "./text.js";

const PAUSE_MS = 180;
const MOST_SHOWN = 8;

let waiting = 0;
let asking = null;
let context = null;
let prediction = null;

/** Connects the fields; `add(example)` appends an example, and `moved(query)` draws the query on the map. */
export function start(given) {
  context = given;
  for (const field of [$("query"), $("pair")]) {
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(ask, PAUSE_MS);
    });
  }
  const addNew = () => add($("new-label").value.trim());
  $("new-label-add").addEventListener("click", addNew);
  $("new-label").addEventListener("keydown", (event) => event.key === "Enter" && addNew());
}

/** The query as a request has it; null where nothing is typed. */
export function query() {
  const text = $("query").value;
  if (!text.trim()) return null;
  if ($("pair-field").hidden) return text;
  return $("pair").value.trim() ? { text, text_pair: $("pair").value } : null;
}

/** Asks about what is typed. A newer question ends an older one, so that the last answer wins. */
export async function ask() {
  clearTimeout(waiting);
  asking?.abort();
  const asked = query();
  if (asked === null || !context.task()) {
    prediction = null;
    show();
    context.moved(null);
    return;
  }
  const mine = new AbortController();
  asking = mine;
  const task = context.task();
  const body = { queries: [asked], explain: context.kept() };
  try {
    const answer = await api.predict(task, body, mine.signal);
    if (asking !== mine) return;
    prediction = answer.predictions[0];
    code.note("predict", { task, body });
    show();
    await context.moved(asked, mine.signal);
  } catch (error) {
    if (error.name !== "AbortError" && asking === mine) context.failed(error);
  }
}

export function clear() {
  prediction = null;
  $("query").value = $("pair").value = "";
  show();
}

export function show() {
  const scores = prediction ? Object.entries(prediction.scores) : [];
  $("verdict").textContent = prediction ? verdict(scores[0]) : "";
  $("scores").replaceChildren(...scores.slice(0, MOST_SHOWN).map(bar));
  if (scores.length > MOST_SHOWN) {
    $("scores").append(el("li", { class: "hint" }, t("try.more", { n: scores.length - MOST_SHOWN })));
  }
  $("new-label-row").hidden = !prediction || !context.kept();
  const near = prediction?.nearest ?? [];
  $("near-title").hidden = !near.length;
  $("near").replaceChildren(...near.map((example) => el("li", {}, shown(example),
    el("small", {}, t("near.is", { label: example.label, similarity: number(example.similarity, 2) })))));
}

function verdict([label, share]) {
  const values = { label, percent: percent(share) };
  const parts = [t(prediction.abstained ? "try.unsure" : "try.verdict", values)];
  if (prediction.unreadable) parts.push(t("try.unreadable"));
  if (prediction.truncated) parts.push(t("try.truncated"));
  return parts.join(" ");
}

function bar([label, share]) {
  const filled = el("div", { class: "bar" });
  filled.style.width = `${100 * share}%`;
  const adding = context.kept()
    ? button("+", () => add(label), { "aria-label": t("try.add_as", { label }), title: t("try.add_as", { label }) }) : null;
  return el("li", {}, el("span", { class: "name" }, short(label, 80)),
    el("div", { class: "track", "aria-hidden": "true" }, filled),
    el("span", { class: "percent" }, percent(share)), adding);
}

async function add(label) {
  const asked = query();
  if (!label || asked === null) return;
  const example = typeof asked === "string" ? { text: asked, label } : { ...asked, label };
  if (await context.add(example)) {
    $("new-label").value = "";
    announce(t("try.added", { label, version: context.version() }));
    await ask();
  }
}
