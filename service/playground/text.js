// The words of the page, from one table for all languages.

const table = await (await fetch(new URL("strings.json", import.meta.url))).json();
const listeners = [];
let language = preferred();

export const languages = Object.keys(table);
export const current = () => language;

/** Words of a key, with its values put in; `n` chooses between singular and plural. */
export function t(key, values = {}) {
  let words = table[language][key];
  if (words === undefined) throw new Error(`no words for ${key}`);
  if (typeof words !== "string") words = words[new Intl.PluralRules(language).select(values.n)] ?? words.other;
  return words.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export const percent = (share) => new Intl.NumberFormat(language, { style: "percent" }).format(share);
export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

export function use(name) {
  language = name;
  keep("handful-language", name);
  translate();
}

/** Calls a function whenever the language changes. */
export const whenChanged = (listener) => listeners.push(listener);

export function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  for (const listener of listeners) listener();
}

/** Remembers a choice of the reader, where the browser lets it. */
export function keep(name, value) {
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // storage is refused: the choice holds until the page is left
  }
}

export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function preferred() {
  const wanted = [kept("handful-language"), ...navigator.languages.map((name) => name.split("-")[0])];
  return wanted.find((name) => name in table) ?? "en";
}
