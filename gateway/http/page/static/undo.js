// One step back from something that is hard to repeat.

import { $ } from "./dom.js";

let back = null;

export function start() {
  $("undo-button").addEventListener("click", () => {
    const undo = back;
    withdraw();
    undo?.();
  });
}

/** Says what was done, and offers to undo it until something else is done. */
export function offer(said, undo) {
  back = undo;
  $("undo-text").textContent = said;
  $("undo").hidden = false;
  $("undo-button").focus();
}

export function withdraw() {
  back = null;
  $("undo").hidden = true;
}
