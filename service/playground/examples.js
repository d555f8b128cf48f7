// The first step: files and pasted texts, read by the server as the command line reads them.

import * as api from "./api.js";
import { $, announce, button, el, shown } from "./dom.js";
import { t } from "./text.js";

const SAMPLES = ["shop-en.csv", "shop-zh.jsonl", "shop-mistakes.csv"];
const MOST_SHOWN = 200;

/** The examples to adapt on, and how they were read. */
export const read = { examples: [], labels: {}, name: "", found: "" };
let last = null;

/** Connects the fields of the step; `attempt` runs an action and shows its failure. */
export function start(attempt) {
  $("samples").replaceChildren(...SAMPLES.map((name) => {
    const made = button("", () => attempt(() => sample(name)), { "data-t": `sample.${name}` });
    made.classList.remove("small");
    return made;
  }));
  const drop = $("drop");
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => mark(event, true));
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, (event) => mark(event, false));
  drop.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file) attempt(() => take(file, file.name));
  });
  // Beside the field, a file would make the browser leave the page
  for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) attempt(() => take(file, file.name));
    $("file").value = "";  // so that the same file can be chosen again when it was mended
  });
  $("paste-read").addEventListener("click", () => attempt(() => take(new Blob([$("paste").value]), "")));
  $("columns-read").addEventListener("click", () => attempt(() => last && take(...last)));

  function mark(event, over) {
    event.preventDefault();
    drop.classList.toggle("over", over);
  }
}

async function sample(name) {
  const response = await fetch(new URL(`examples/${name}`, import.meta.url));
  await take(await response.blob(), name);
}

async function take(file, name) {
  last = [file, name];
  const query = { name };
  for (const field of ["text_column", "label_column", "delimiter", "encoding"]) {
    if ($(field).value.trim()) query[field] = $(field).value.trim();
  }
  let answer;
  try {
    answer = await api.readFile(file, query);
  } catch (error) {
    if (error.code === "file_unreadable") $("columns-fold").open = true;
    throw error;
  }
  set(answer.examples.map(plain), { labels: answer.labels, name: name || t("examples.pasted"), found: answer.found });
  announce(`${t("examples.found", { n: read.examples.length })} ${answer.found}`);
  $("adapt-button").scrollIntoView({ block: "nearest" });
}

/** Puts examples in the place of those that are shown. */
export function set(examples, { labels = {}, name = "", found = "" } = {}) {
  Object.assign(read, { examples, labels, name, found });
  $("read").hidden = false;
  show();
}

export function show() {
  if ($("read").hidden) return;
  const { examples } = read;
  $("read-name").textContent = read.name;
  $("read-found").textContent = read.found;
  const counts = new Map(Object.keys(read.labels).map((label) => [label, 0]));
  for (const { label } of examples) counts.set(label, (counts.get(label) ?? 0) + 1);
  $("read-classes").replaceChildren(
    ...[...counts].map(([label, n]) => el("li", {}, el("b", {}, label), ` ${n}`)),
  );
  $("read-count").textContent = t("examples.count", { n: examples.length });
  $("read-rows").replaceChildren(...examples.slice(0, MOST_SHOWN).map(row));
  $("read-more").hidden = examples.length <= MOST_SHOWN;
  $("read-more").textContent = t("examples.more", { n: MOST_SHOWN });
}

function row(example, index) {
  const takeOut = button("×", () => {
    read.examples = read.examples.filter((other) => other !== example);
    show();
    $("read-rows").querySelectorAll("button")[Math.min(index, read.examples.length - 1)]?.focus();
  }, { "aria-label": t("examples.take_out_one", { text: shown(example) }) });
  return el("tr", {}, el("td", {}, shown(example)), el("td", {}, example.label), el("td", {}, takeOut));
}

/** An example without the fields that it does not have. */
export const plain = (example) =>
  Object.fromEntries(Object.entries(example).filter(([, value]) => value !== null && value !== undefined));
