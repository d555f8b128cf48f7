// Calls of the HTTP API. The key is a variable of this module, and is stored nowhere.

/** Address of the server, with the prefix under which a proxy shows it. */
export const base = new URL("..", import.meta.url).href.replace(/\/$/, "");

let key = "";
export const hasKey = () => key !== "";
export const useKey = (value) => (key = value.trim());

/** An answer that is not a success; `code` is empty where the server did not answer. */
export class Problem extends Error {
  constructor(status, code, detail, errors = []) {
    super(detail);
    Object.assign(this, { status, code, errors });
  }
}

const taskPath = (task, rest = "") => `v1/tasks/${encodeURIComponent(task)}${rest}`;

export async function call(method, path, { body, file, signal } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (file !== undefined) headers["Content-Type"] = "application/octet-stream";
  const content = body !== undefined ? JSON.stringify(body) : file;
  let response;
  try {
    response = await fetch(`${base}/${path}`, { method, headers, body: content, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "", String(error.message));
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Problem(response.status, answer.code ?? "", answer.detail ?? response.statusText, answer.errors ?? []);
  }
  return answer;
}

export const checkpoints = () => call("GET", "v1/checkpoints");
export const tasks = () => call("GET", "v1/tasks?limit=200");
export const showTask = (task) => call("GET", taskPath(task));

/** A task by name, or null; asked of the list, since browsers report an absent one as an error of the page. */
export async function findTask(name) {
  let after = name.slice(0, -1);  // the shorter name comes before it
  for (;;) {
    const { tasks: page, next } = await call("GET", `v1/tasks?${new URLSearchParams(after ? { limit: 50, after } : { limit: 50 })}`);
    const found = page.find(({ task }) => task === name);
    if (found || !next || next > name) return found ?? null;
    after = next;
  }
}

export const listExamples = (task) => call("GET", taskPath(task, "/examples?limit=200"));
export const readFile = (file, query) => call("POST", `v1/examples/read?${new URLSearchParams(query)}`, { file });
export const adapt = (task, body) => call("POST", taskPath(task, "/adapt"), { body });
export const predict = (task, body, signal) => call("POST", taskPath(task, "/predict"), { body, signal });
export const map = (task, body, signal) => call("POST", taskPath(task, "/map"), { body, signal });
export const addExamples = (task, body) => call("POST", taskPath(task, "/examples"), { body });
export const eraseExample = (task, id) => call("DELETE", taskPath(task, `/examples/${encodeURIComponent(id)}`));
export const report = (task) => call("GET", taskPath(task, "/report"));
