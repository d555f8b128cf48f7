// The page: its state, and which step follows which.

import * as adapted from "./adapted.js";
import * as api from "./api.js";
import * as code from "./code.js";
import { $, announce, el } from "./dom.js";
import * as drawing from "./drawing.js";
import * as examples from "./examples.js";
import * as reporting from "./reporting.js";
import { current, keep, kept, t, translate, use, whenChanged } from "./text.js";
import * as trying from "./trying.js";

/** The task on show. `own`: adapted here, so that its whole request is known; `kept`: its texts are stored. */
const state = { task: null, answer: null, own: false, kept: true, request: null, checkpoints: [], sure: null };

/** Runs an action; a failure is shown at the top, and a missing key asks for one. Returns whether it went well. */
async function attempt(action) {
  $("problem").hidden = true;
  try {
    await action();
    return true;
  } catch (error) {
    failed(error);
    return false;
  }
}

function failed(error) {
  if (!(error instanceof api.Problem)) throw error;
  if (error.status === 401) openKey(true);
  const words = error.status === 401 ? t("key.needed") : error.status ? error.message.replace(/^#: /, "") : t("problem.away");
  const lang = error.status && error.status !== 401 ? "en" : null;
  $("problem").replaceChildren(el("strong", {}, t("problem.title")), el("span", { lang }, words));
  $("problem").hidden = false;
  $("problem").scrollIntoView({ block: "nearest" });
}

function openKey(open) {
  $("key-panel").hidden = !open;
  $("key-toggle").setAttribute("aria-expanded", String(open));
  if (open) $("key").focus();
}

async function connect() {
  state.checkpoints = (await api.checkpoints()).checkpoints;
  const names = ["auto", ...state.checkpoints.map(({ name }) => name)];
  $("checkpoint-field").hidden = state.checkpoints.length < 2;
  $("checkpoint").replaceChildren(...names.map((name) => el("option", { value: name }, name === "auto" ? t("adapt.auto") : name)));
  $("checkpoint").value = state.checkpoints[0].name;
  await listStored();
}

async function listStored() {
  const { tasks } = await api.tasks();
  const names = tasks.map(({ task }) => task);
  const options = names.length ? names.map((name) => el("option", {}, name)) : [el("option", { value: "" }, t("stored.none"))];
  $("stored").replaceChildren(...options);
  $("stored-open").disabled = !names.length;
}

// ---- adapting ------------------------------------------------------------------------------------------------------

async function adapt() {
  const task = $("task").value.trim();
  if (!(await mayReplace(task))) return;
  const { labels } = examples.read;
  const request = { support: examples.read.examples };
  if (Object.keys(labels).length) request.labels = labels;
  if (!$("checkpoint-field").hidden) request.checkpoint = $("checkpoint").value;
  if ($("keep").value) request.ttl_seconds = Number($("keep").value);
  await commit(task, request);
  $("adapted").focus();
  announce(adaptedWords());
}

/** Whether a name is free or the page's own; one that is taken has to be confirmed by a second press. */
async function mayReplace(task) {
  const hint = $("adapt-exists");
  hint.hidden = true;
  if (task === state.task || task === state.sure) return true;
  const found = await api.findTask(task);
  if (!found) return true;
  hint.textContent = t("adapt.exists", { version: found.version, next: found.version + 1 });
  hint.hidden = false;
  announce(hint.textContent);
  state.sure = task;
  return false;
}

async function commit(task, request) {
  const { adapt: controls } = document.forms;
  controls.setAttribute("aria-busy", "true");
  $("adapt-button").textContent = t("adapt.busy");
  try {
    const answer = await api.adapt(task, request);
    if (task !== state.task) code.forget();
    Object.assign(state, { task, answer, own: true, kept: true, request });
    code.note("adapt", { task, body: request });
  } finally {
    controls.removeAttribute("aria-busy");
    $("adapt-button").textContent = t("adapt.button");
  }
  await refresh();
}

const adaptedWords = () => $("adapted-lead").textContent;

/** Shows the newest version in all steps. */
async function refresh() {
  $("main").classList.add("open");
  for (const id of ["try", "code"]) $(id).hidden = false;
  $("pair-field").hidden = !examples.read.examples[0]?.text_pair;
  adapted.show(state.answer, state.checkpoints);
  examples.show();
  if (state.kept) {
    await Promise.all([drawing.load(state.task, trying.query()), showReport()]);
  } else {
    drawing.hide();
    reporting.hide(t("report.not_kept"));
  }
  await trying.ask();
  await listStored();
}

async function showReport() {
  reporting.set(await api.report(state.task));
  code.note("report", { task: state.task });
}

async function openStored() {
  const name = $("stored").value;
  const task = await api.showTask(name);
  const list = task.support_kept ? await api.listExamples(name) : { examples: [] };
  if (name !== state.task) code.forget();
  Object.assign(state, { task: name, answer: task, own: false, kept: task.support_kept, request: null });
  examples.set(list.examples.map(({ text, text_pair, label, id }) => examples.plain({ text, text_pair, label, id })), { name });
  $("task").value = name;
  trying.clear();
  await refresh();
  $("adapted").focus();
}

// ---- changing the examples ------------------------------------------------------------------------------------------

const add = (example) => attempt(async () => {
  const body = { examples: [example] };
  const answer = await api.addExamples(state.task, body);
  Object.assign(state, { answer });
  examples.read.examples = [...examples.read.examples, { ...example, id: answer.ids[0] }];
  code.note("add", { task: state.task, body });
  await refresh();
});

/** Another version, on the same examples with another label for one of them; the former version is kept. */
const relabel = (example, label) => attempt(async () => {
  const others = examples.read.examples.map((other) => (same(other, example) ? { ...other, id: undefined, label } : other));
  examples.read.examples = others.map(examples.plain);
  await commit(state.task, { ...state.request, support: examples.read.examples });
  announce(t("report.relabelled", { version: state.answer.version }));
});

const erase = (example) => attempt(async () => {
  const { id } = example;
  state.answer = await api.eraseExample(state.task, id);
  const gone = examples.read.examples.findIndex((other) => same(other, example));
  examples.read.examples = examples.read.examples.filter((_, index) => index !== gone);
  code.note("erase", { task: state.task, id });
  await refresh();
  announce(t("report.erased", { version: state.answer.version }));
});

const same = (one, other) =>
  one.text === other.text && (one.text_pair ?? null) === (other.text_pair ?? null) && one.label.trim() === other.label;

// ---- start ----------------------------------------------------------------------------------------------------------

$("task").value = `playground-${Math.random().toString(36).slice(2, 6)}`;
$("adapt").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(adapt);
});
$("key-toggle").addEventListener("click", () => openKey($("key-panel").hidden));
$("key-panel").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useKey($("key").value);
  attempt(async () => {
    await connect();
    openKey(false);
    $("key-toggle").focus();
    announce(t("key.taken"));
    code.show();
  });
});
$("stored-open").addEventListener("click", () => attempt(openStored));
for (const radio of document.querySelectorAll('input[name="form"]')) radio.addEventListener("change", code.show);

$("theme").value = kept("handful-theme") ?? "";
$("theme").addEventListener("change", () => {
  keep("handful-theme", $("theme").value);
  if ($("theme").value) document.documentElement.dataset.theme = $("theme").value;
  else delete document.documentElement.dataset.theme;
});
$("language").value = current();
$("language").addEventListener("change", () => use($("language").value));
whenChanged(() => {
  examples.show();
  trying.show();
  drawing.show();
  reporting.show();
  code.show();
  if (state.answer) adapted.show(state.answer, state.checkpoints);
});

examples.start(attempt);
trying.start({
  task: () => state.task,
  version: () => state.answer.version,
  kept: () => state.kept,
  add,
  failed,
  moved: (query, signal) => drawing.move(state.task, query, signal),
});
drawing.start();
reporting.start({ canRelabel: () => state.own, relabel, erase });
translate();
attempt(connect);
