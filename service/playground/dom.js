// Elements. Texts become text nodes and nothing else, since anybody may have written them.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element with attributes; children are elements or texts, and null ones are left out. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of a drawing. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function button(words, action, attributes = {}) {
  const made = el("button", { type: "button", class: "small", ...attributes }, words);
  made.addEventListener("click", action);
  return made;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Says something to a screen reader. */
export function announce(words) {
  const place = $("announcer");
  place.textContent = "";
  setTimeout(() => (place.textContent = words), 50);
}

/** The text of an example or query; both texts of a pair. */
export const shown = ({ text, text_pair: pair }) => (pair ? `${text} ⟷ ${pair}` : text);
export const short = (words, most = 60) => ([...words].length > most ? [...words].slice(0, most - 1).join("") + "…" : words);
