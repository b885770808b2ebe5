// The list of labels: one input each, edited by keyboard, by mouse and by pasting lines.

import { element } from "./dom.js";

export class LabelList {
  /**
   * @param {HTMLOListElement} list
   * @param {() => void} onChange the visitor has changed a text, or the number of labels
   */
  constructor(list, onChange) {
    this.list = list;
    this.onChange = onChange;
  }

  /** [{row, text}], empty texts included. */
  get rows() {
    return [...this.list.children].map((row) => ({ row, text: textOf(row) }));
  }

  get texts() {
    return this.rows.map(({ text }) => text).filter(Boolean);
  }

  set(labels) {
    this.list.replaceChildren();
    for (const label of labels) this.add(label);
  }

  /** A row after another one, or at the end; its input. */
  add(text, after = null) {
    const attributes = { type: "text", value: text, placeholder: "a label", maxlength: 1000, spellcheck: "false", autocapitalize: "none" };
    const input = element("input", attributes);
    const track = element("span", { class: "track", "aria-hidden": "true" }, element("span", { class: "fill" }));
    const remove = element("button", { class: "remove", title: "Remove" }, element("span", { "aria-hidden": "true" }, "×"));
    const row = element("li", {}, input, track, element("span", { class: "value" }), remove);
    if (after) after.after(row);
    else this.list.append(row);
    input.addEventListener("input", () => this.onChange());
    input.addEventListener("keydown", (event) => this.#onKey(event, row));
    input.addEventListener("paste", (event) => this.#onPaste(event, row));
    remove.addEventListener("click", () => this.#remove(row));
    this.#number();
    return input;
  }

  #remove(row) {
    const next = row.previousElementSibling ?? row.nextElementSibling;
    row.remove();
    (next?.querySelector("input") ?? this.add("")).focus();
    this.#number();
    this.onChange();
  }

  /** Screen readers are told which label it is, and its score with it. */
  #number() {
    this.rows.forEach(({ row }, index) => {
      row.querySelector("input").setAttribute("aria-label", `Label ${index + 1}`);
      row.querySelector("input").setAttribute("aria-describedby", `score-${index}`);
      row.querySelector(".value").id = `score-${index}`;
      row.querySelector(".remove").setAttribute("aria-label", `Remove label ${index + 1}`);
    });
  }

  #onKey(event, row) {
    const input = event.target;
    const aim = { ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling }[event.key];
    if (event.isComposing) return;
    if (event.key === "Enter") this.add("", row).focus();
    else if (event.key === "Backspace" && input.value === "" && this.list.children.length > 1) this.#remove(row);
    else if (aim) aim.querySelector("input").focus();
    else return;
    event.preventDefault();
  }

  /** Several lines at once become several labels. */
  #onPaste(event, row) {
    const lines = event.clipboardData.getData("text").split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
    if (lines.length < 2) return;
    event.preventDefault();
    let last = row;
    if (!textOf(row)) row.querySelector("input").value = lines.shift();
    for (const line of lines) last = this.add(line, last).parentElement;
    last.querySelector("input").focus();
    this.onChange();
  }
}

const textOf = (row) => row.querySelector("input").value.trim();
