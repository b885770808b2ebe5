// The comparison as a request to copy, in the language that was chosen.

import { hasKey } from "./api.js";
import { $, chosen, onChosen } from "./dom.js";
import { curl, python } from "./snippets.js";

let asked = { variant: "PE-Core-L14-336", labels: [], file: "picture.jpg", sample: null, address: null };

export function start() {
  $("copy").addEventListener("click", copy);
  onChosen("language", render);
  render();
}

/** @param {{variant: string, labels: string[], file: string, sample: string | null, address: string | null}} now */
export function show(now) {
  asked = now;
  render();
}

function render() {
  const url = new URL(".", document.baseURI).href;
  const sample = asked.sample && `${url}page/samples/${asked.sample}`;
  $("snippet").firstElementChild.textContent = { curl, python }[chosen("language")]({ ...asked, sample, url, key: hasKey() });
}

async function copy() {
  const text = $("snippet").textContent;
  try {
    await navigator.clipboard.writeText(text);
    $("copy").textContent = "Copied";
  } catch {
    // Without https there is no clipboard to write to: mark it, so that one key copies it.
    getSelection().selectAllChildren($("snippet"));
    $("copy").textContent = "Selected: copy with Ctrl-C";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
}
