// The fourth step: the map of examples and query.

import * as api from "./api.js";
import { $, el, short, shown, svg } from "./dom.js";
import { percent, t } from "./text.js";

const WIDTH = 480, HEIGHT = 340, MARGIN = 24, MOST_DRAWN = 2000;
const COLOURS = 8;

/** Outlines around a point, by the class's number: shapes differ as colours do, for those who see no colours. */
const SHAPES = [
  (r) => svg("circle", { r }),
  (r) => svg("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r, rx: 1 }),
  (r) => svg("path", { d: `M0 ${-1.3 * r}L${1.25 * r} ${r}H${-1.25 * r}Z` }),
  (r) => svg("path", { d: `M0 ${-1.4 * r}L${1.4 * r} 0L0 ${1.4 * r}L${-1.4 * r} 0Z` }),
  (r) => svg("path", { d: `M0 ${1.3 * r}L${1.25 * r} ${-r}H${-1.25 * r}Z` }),
  (r) => svg("path", { d: cross(r * 0.5, r * 1.3) }),
  (r) => svg("rect", { x: -1.5 * r, y: -0.7 * r, width: 3 * r, height: 1.4 * r, rx: 0.7 * r }),
];

let placed = null;
let here = null;
let chosen = -1;

export function start() {
  $("map-before").addEventListener("click", () => choose(chosen - 1));
  $("map-after").addEventListener("click", () => choose(chosen + 1));
}

/** Places the examples of the newest version, and the query. */
export async function load(task, query) {
  placed = await api.map(task, { queries: query === null ? [] : [query] });
  placed.examples.sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : a.x - b.x));
  here = placed.queries[0] ?? null;
  chosen = -1;
  show();
}

/** Places the query alone, among the examples that are drawn already. */
export async function move(task, query, signal) {
  if (!placed) return;
  here = query === null ? null : (await api.map(task, { queries: [query], examples: false }, signal)).queries[0];
  show();
}

export function hide() {
  placed = here = null;
  $("map-card").hidden = true;
}

export function show() {
  if (!placed?.examples.length) return hide();
  $("map-card").hidden = false;
  $("map-hint").textContent = t("map.hint", { percent: percent(placed.shown) });
  const labels = [...new Set(placed.examples.map(({ label }) => label))];
  const at = scale(here ? [...placed.examples, here] : placed.examples);
  const marks = placed.examples.slice(0, MOST_DRAWN).map((example, index) => {
    const mark = glyph(labels.indexOf(example.label), 5);
    mark.setAttribute("transform", `translate(${at(example)})`);
    mark.classList.add("mark");
    mark.classList.toggle("chosen", index === chosen);
    mark.append(svg("title", {}, t("map.point", { label: example.label, text: shown(example) })));
    mark.addEventListener("click", () => choose(index));
    return mark;
  });
  const ring = here ? [svg("g", { id: "here", transform: `translate(${at(here)})` },
    svg("circle", { class: "here", r: 10 }), svg("circle", { class: "here-dot", r: 3 }))] : [];
  $("map").replaceChildren(svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": t("map.alt", { n: placed.examples.length }) }, ...marks, ...ring));
  $("legend").replaceChildren(...labels.map((label, index) => {
    const mark = glyph(index, 5);
    mark.setAttribute("transform", "translate(8 8)");
    return el("li", {}, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, mark), short(label, 40));
  }));
  words();
}

function choose(index) {
  const n = Math.min(placed?.examples.length ?? 0, MOST_DRAWN);
  if (!n) return;
  chosen = (index + n) % n;
  document.querySelectorAll("#map .mark").forEach((mark, i) => mark.classList.toggle("chosen", i === chosen));
  words();
}

function words() {
  const example = placed.examples[chosen];
  $("map-text").textContent = example ? t("map.point", { label: example.label, text: shown(example) }) : "";
}

function glyph(index, radius) {
  const mark = SHAPES[index % SHAPES.length](radius);
  mark.classList.add(`k${index % COLOURS}`);
  return mark;
}

/** A function from places to the drawing, with one scale for both axes. */
function scale(points) {
  const range = (name) => [Math.min(...points.map((p) => p[name])), Math.max(...points.map((p) => p[name]))];
  const [left, right] = range("x"), [low, high] = range("y");
  const factor = Math.min((WIDTH - 2 * MARGIN) / (right - left || 1), (HEIGHT - 2 * MARGIN) / (high - low || 1));
  return ({ x, y }) => {
    const across = WIDTH / 2 + (x - (left + right) / 2) * factor;
    const down = HEIGHT / 2 - (y - (low + high) / 2) * factor;
    return `${across.toFixed(1)} ${down.toFixed(1)}`;
  };
}

function cross(w, r) {
  return `M${-w} ${-r}H${w}V${-w}H${r}V${w}H${w}V${r}H${-w}V${w}H${-r}V${-w}H${-w}Z`;
}
