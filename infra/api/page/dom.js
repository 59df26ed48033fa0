// Small helpers. Text from the server enters the page here, always as text.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Sets text only when it differs, so that a live region speaks once. */
export function say(node, text) {
  text = text ?? "";
  if (node.textContent !== text) node.textContent = text;
}

export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
