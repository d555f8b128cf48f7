// The fifth step: the evidence about the classifier, with remedies in place.

import { $, button, el, shown } from "./dom.js";
import { number, percent, t } from "./text.js";

let context = null;
let shownReport = null;
let before = null;

/** Takes the remedies: `relabel(example, label)` where the examples are the page's own, and `erase(example)`. */
export const start = (given) => (context = given);

/** Shows a report, beside the one before it of the same task. */
export function set(report) {
  const sameTask = shownReport && report && shownReport.task === report.task;
  if (!sameTask) before = null;
  else if (shownReport.version !== report.version) before = shownReport;
  shownReport = report;
  show();
}

export function hide(words = "") {
  shownReport = before = null;
  $("report").hidden = !words;
  $("report-lead").textContent = words;
  $("report-body").replaceChildren();
}

export function show() {
  if (!shownReport) return;
  $("report").hidden = false;
  const { accuracy } = shownReport;
  $("report-lead").replaceChildren(accuracy
    ? t("report.lead", { percent: percent(accuracy.value), low: percent(accuracy.interval[0]), high: percent(accuracy.interval[1]) })
    : t("report.no_estimate"), ...change());
  const parts = [[...estimate(shownReport), ...classes(shownReport)], findings(shownReport)].filter((nodes) => nodes.length);
  $("report-body").replaceChildren(...parts.map((nodes) => el("div", {}, ...nodes)));
}

function change() {
  if (!before?.accuracy || !shownReport.accuracy) return [];
  const gain = shownReport.accuracy.value - before.accuracy.value;
  const kind = Math.abs(gain) < 0.005 ? "" : gain > 0 ? "good" : "worse";
  const words = t("report.change", { percent: percent(before.accuracy.value), version: before.version });
  return [" ", el("span", { class: kind, id: "report-change" }, `(${words})`)];
}

function estimate({ accuracy, baselines, twice_the_examples: twice, few_examples: few }) {
  if (!accuracy) return [];
  const rows = [["report.row_this", accuracy.value], ["report.row_ridge", baselines?.ridge], ["report.row_majority", baselines?.majority]];
  const range = el("i"), value = el("b");
  range.style.left = `${100 * accuracy.interval[0]}%`;
  range.style.right = `${100 - 100 * accuracy.interval[1]}%`;
  value.style.left = `${100 * accuracy.value}%`;
  return [
    el("h3", {}, t("report.gauge")),
    el("div", { class: "gauge", "aria-hidden": "true" }, range, value),
    el("table", {}, el("tbody", {}, ...rows.filter(([, share]) => share !== undefined && share !== null).map(([key, share]) =>
      el("tr", {}, el("th", { scope: "row" }, t(key)), el("td", { class: "number" }, percent(share)))))),
    el("p", { class: "hint" }, t("report.counted", { right: number(accuracy.right), asked: accuracy.asked })),
    twice ? el("p", { class: "hint" }, t("report.twice", { percent: percent(twice.accuracy) })) : null,
    few.length ? el("p", { class: "hint" }, `${t("report.few")}: ${few.join(", ")}`) : null,
  ].filter(Boolean);
}

function findings(report) {
  const parts = [
    ...list("report.suspects", report.suspects, report.n_suspects, suspect),
    ...list("report.contradictions", report.contradictions, report.n_contradictions, ({ examples }) => group(examples)),
    ...list("report.confusable", report.confusable, report.n_confusable, confusable),
    ...list("report.duplicates", report.near_duplicates, report.n_near_duplicates, ({ examples }) => group(examples)),
  ];
  const clean = !report.n_suspects && !report.n_contradictions;
  return clean ? [...parts, el("p", { class: "hint" }, t("report.clean"))] : parts;
}

function list(title, entries, total, entry) {
  if (!entries.length) return [];
  const most = 6, left = total - Math.min(most, entries.length);
  return [el("h3", {}, t(title)), ...entries.slice(0, most).map(entry),
    ...(left ? [el("p", { class: "hint" }, t("report.more", { n: left }))] : [])];
}

function suspect(example) {
  const { label, reads_as: other, confidence } = example;
  return el("div", { class: "finding" },
    el("div", {}, shown(example), el("small", {}, t("report.reads_as", { label, other, percent: percent(confidence) }))),
    actions(example, other));
}

const group = (examples) => el("div", { class: "finding" }, el("ul", {}, ...examples.map((example) =>
  el("li", { class: "row" }, el("div", { class: "grow" }, shown(example), el("small", {}, t("report.labelled", example))), actions(example)))));

function confusable({ labels: [first, second], counts: [n, m], shown: examples }) {
  return el("div", { class: "finding" }, el("div", {}, t("report.pair", { first, second, n, m })),
    el("ul", {}, ...examples.map((example) => el("li", {}, shown(example), el("small", {}, t("report.labelled", example))))));
}

/** Buttons for an example: another label, where one is proposed, and erasing it, which is asked twice. */
function actions(example, label = null) {
  const text = shown(example);
  const erase = button(t("report.erase"), () => {
    if (erase.dataset.sure) return context.erase(example);
    erase.dataset.sure = "1";
    erase.textContent = t("report.erase_sure");
    erase.removeAttribute("aria-label");
    return null;
  }, { "aria-label": t("report.erase_one", { text }) });
  const relabel = label && context.canRelabel()
    ? button(t("report.relabel", { label }), () => context.relabel(example, label), { "aria-label": t("report.relabel_one", { label, text }) })
    : null;
  return el("div", { class: "row" }, relabel, erase);
}

function classes(report) {
  const share = (value) => (value === null ? "" : percent(value));
  const number = (words) => el("td", { class: "number" }, words);
  const head = (key, kind) => el("th", { scope: "col", class: kind }, t(key));
  return [
    el("h3", {}, t("report.classes")),
    el("table", {},
      el("thead", {}, el("tr", {}, head("report.class"), head("report.examples", "number"), head("report.found", "number"), head("report.right", "number"))),
      el("tbody", {}, ...report.classes.map((each) => el("tr", {}, el("th", { scope: "row" }, each.label),
        number(String(each.examples)), number(share(each.recall)), number(share(each.precision)))))),
  ];
}
