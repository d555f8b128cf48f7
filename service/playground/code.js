// The calls that were made, as curl and as Python.

import { base, hasKey } from "./api.js";
import { $, announce, button, el } from "./dom.js";
import { t } from "./text.js";

const done = new Map();

/** Notes a call: its kind, and what it was asked with. The newest of each kind is shown. */
export function note(kind, call) {
  done.delete(kind);
  done.set(kind, call);
  show();
}

export const forget = () => done.clear();

export function show() {
  const form = document.querySelector('input[name="form"]:checked').value;
  const write = form === "python" ? python : curl;
  $("code-blocks").replaceChildren(...[...done].map(([kind, call]) => block(t(`code.${kind}`), write(kind, call))));
}

function block(name, code) {
  const copy = button(t("code.copy"), async () => {
    await copied(code);
    copy.textContent = t("code.copied");
    announce(t("code.copied"));
    setTimeout(() => (copy.textContent = t("code.copy")), 1500);
  }, { "aria-label": t("code.copy_one", { name }) });
  return el("div", { class: "block" },
    el("div", {}, el("h3", {}, name), copy), el("pre", { tabindex: "0" }, el("code", { lang: "en" }, code)));
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code);
  } catch {
    // no clipboard outside of https and localhost: the older way
    const area = el("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = code;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

const methods = { report: "GET", erase: "DELETE" };
const paths = { adapt: "adapt", predict: "predict", add: "examples", report: "report" };

/** A JSON object with each item of a list on a line of its own, so that long support sets can be read. */
function lines(body) {
  const fields = Object.entries(body).map(([name, value]) => {
    if (!Array.isArray(value)) return `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`;
    return `  ${JSON.stringify(name)}: [\n${value.map((item) => `    ${JSON.stringify(item)}`).join(",\n")}\n  ]`;
  });
  return `{\n${fields.join(",\n")}\n}`;
}

function curl(kind, { task, id, body }) {
  const path = kind === "erase" ? `examples/${encodeURIComponent(id)}` : paths[kind];
  const parts = ["curl -sS"];
  if (methods[kind] === "DELETE") parts.push("-X DELETE");
  parts.push(`'${base}/v1/tasks/${task}/${path}'`);
  if (hasKey()) parts.push('-H "Authorization: Bearer $HANDFUL_API_KEY"');
  if (!body) return parts.join(" ");
  parts.push("-H 'Content-Type: application/json'", "--data-binary @- <<'JSON'");
  return `${parts.join(" ")}\n${lines(body)}\nJSON`;
}

/** A value as Python writes it. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((item) => `        ${literal(item)},`).join("\n")}\n    ]` : "[]";
  if (typeof value === "object") return `{${Object.entries(value).map(([name, item]) => `${literal(name)}: ${literal(item)}`).join(", ")}}`;
  return JSON.stringify(value);
}

function python(kind, { task, id, body }) {
  const { support, queries, examples, ...rest } = body ?? {};
  const name = JSON.stringify(task);
  const options = Object.entries(rest).map(([field, value]) => `, ${field}=${literal(value)}`).join("");
  const [does, prints] = {
    adapt: () => [`client.adapt(${name}, ${literal(support ?? [])}${options})`, "answer.version, answer.leave_one_out_accuracy"],
    predict: () => [`client.predict(${name}, ${literal(queries)}${options})`, "answer.predictions"],
    add: () => [`client.add_examples(${name}, ${literal(examples)})`, "answer.version, answer.ids"],
    erase: () => [`client.erase_example(${name}, ${JSON.stringify(id)})`, "answer.version"],
    report: () => [`client.report(${name})`, "answer.accuracy, answer.suspects"],
  }[kind]();
  const key = hasKey() ? ', api_key=os.environ["HANDFUL_API_KEY"]' : "";
  return `${hasKey() ? "import os\n\n" : ""}from handful import Client

with Client(${JSON.stringify(base)}${key}) as client:
    answer = ${does}
    print(${prints})`;
}
