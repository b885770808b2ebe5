// The few things that every part of the page does with elements.

export const $ = (id) => document.getElementById(id);

/** element("li", {class: "row"}, child, "text") */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Shows a sentence where something went wrong, with a button to try again; null hides it. */
export function showTrouble(id, message, retry = null) {
  const place = $(id);
  place.hidden = message === null;
  place.replaceChildren();
  if (message === null) return;
  place.append(element("p", {}, message));
  if (!retry) return;
  const button = element("button", { class: "button quiet" }, "Try again");
  button.addEventListener("click", retry);
  place.append(button);
}

/** The value of the checked one of these radio buttons. */
export function chosen(name) {
  return document.querySelector(`input[name="${name}"]:checked`).value;
}

/** Checks the one with a value; nobody is told of it. */
export function choose(name, value) {
  document.querySelector(`input[name="${name}"][value="${value}"]`).checked = true;
}

export function onChosen(name, call) {
  for (const radio of document.querySelectorAll(`input[name="${name}"]`)) radio.addEventListener("change", call);
}

/** Calls `picked(files)` with what is picked through a button and its hidden input; the same file may be picked again. */
export function picker(button, input, picked) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    const files = [...$(input).files];
    $(input).value = "";
    if (files.length) picked(files);
  });
}

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
