// Builds elements from text only: nothing that came from outside is ever parsed as markup.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false && child !== "").map(visible));
  return element;
}

// Control and direction characters could make one name look like another.
function visible(child) {
  if (typeof child !== "string") return typeof child === "number" ? String(child) : child;
  return child.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, (character) => "\\u" + character.codePointAt(0).toString(16).padStart(4, "0"));
}

export const at = (id) => document.getElementById(id);

// Replaces children only when what they say changed, so that focus, selection and screen readers are left alone.
export function show(parent, key, build) {
  const text = JSON.stringify(key);
  if (parent.dataset.key === text) return;
  parent.dataset.key = text;
  parent.replaceChildren(...[build()].flat());
}
