// The playground: one page, three parts, and what they share: the model, the key, what is dropped and pasted.

import * as api from "./api.js";
import * as classify from "./classify.js";
import * as compare from "./compare.js";
import { $, element, showTrouble } from "./dom.js";
import * as search from "./search.js";

const PARTS = { compare, search, classify };
let part = "compare";
let model = null; // that was chosen
const told = {}; // by part, the model that it knows of

function show(name) {
  part = name;
  for (const other of Object.keys(PARTS)) {
    const selected = other === name;
    $(`tab-${other}`).setAttribute("aria-selected", String(selected));
    $(`tab-${other}`).tabIndex = selected ? 0 : -1;
    $(other).hidden = !selected;
  }
  tell();
  history.replaceState(null, "", name === "compare" ? location.pathname + location.search : `#${name}`);
}

function startTabs() {
  const names = Object.keys(PARTS);
  for (const name of names) {
    $(`tab-${name}`).addEventListener("click", () => show(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = names[(names.indexOf(name) + step + names.length) % names.length];
      show(next);
      $(`tab-${next}`).focus();
    });
  }
  const asked = location.hash.slice(1);
  show(Object.hasOwn(PARTS, asked) ? asked : "compare");
}

function startDropping() {
  let inside = 0; // a drag enters and leaves each element on its way
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) document.body.classList.toggle("dragging", ++inside > 0);
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) document.body.classList.toggle("dragging", --inside > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    document.body.classList.remove("dragging");
    PARTS[part].drop(event.dataTransfer);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData && PARTS[part].paste?.(event.clipboardData, event.target)) event.preventDefault();
  });
}

function startKey() {
  const dialog = $("key-dialog");
  api.onKeyNeeded((wrong) => {
    $("key-text").textContent = wrong
      ? "That key was not accepted. Another one?"
      : "It is kept in this tab only, and sent to this server only.";
    $("key").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener(
        "close",
        () => resolve(dialog.returnValue === "use" ? $("key").value.trim() || null : null),
        { once: true },
      );
    });
  });
}

/** The demo knows drawn shapes only; every other model is for real pictures. */
function models(info) {
  const found = Object.entries(info.models).map(([name, model]) => ({
    name,
    kind: name.startsWith("PE-Demo") ? "drawn" : "photograph",
    logitScale: Number(model.logit_scale) || null,
    notice: model.notice ?? null,
  }));
  return found.sort((a, b) => (a.kind === "drawn") - (b.kind === "drawn")); // real ones first
}

function use(chosen) {
  model = chosen;
  $("notice").hidden = !model.notice;
  $("notice").textContent = model.notice ?? "";
  tell();
}

/** The part that is shown, of the model. The others learn of it when they are shown: they need not ask anything before. */
function tell() {
  if (model === null || told[part] === model) return;
  told[part] = model;
  PARTS[part].use(model);
}

async function connect() {
  showTrouble("trouble", null);
  let loaded;
  try {
    const info = await api.info();
    loaded = models(info);
    if (loaded.length === 0) throw new Error("The server is there, but no model is ready yet.");
    search.limit(info.limits);
    classify.limit(info.limits);
  } catch (error) {
    showTrouble("trouble", error.message, connect);
    return;
  }
  const select = $("variant");
  select.replaceChildren(...loaded.map(({ name }) => element("option", { value: name }, name)));
  select.disabled = loaded.length < 2;
  select.onchange = () => use(loaded.find(({ name }) => name === select.value));
  use(loaded[0]);
}

startTabs();
startDropping();
startKey();
compare.start();
search.start();
classify.start();
connect();
