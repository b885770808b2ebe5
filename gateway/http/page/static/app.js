// The playground: one page, its parts, and what they share: the model, the key, the address, what is dropped and pasted.

import * as address from "./address.js";
import * as addresses from "./addresses.js";
import * as api from "./api.js";
import * as classify from "./classify.js";
import * as compare from "./compare.js";
import { showDemo } from "./demo.js";
import { $, element, showTrouble } from "./dom.js";
import * as search from "./search.js";

const PARTS = { compare, search, classify };
let part = "compare";
let models = []; // [{name, kind, logitScale, notice}] of this server, real ones first
let model = null; // that was chosen
const told = {}; // by part, the model that it knows of

function show(name, params) {
  part = name;
  for (const other of Object.keys(PARTS)) {
    const selected = other === name;
    $(`tab-${other}`).setAttribute("aria-selected", String(selected));
    $(`tab-${other}`).tabIndex = selected ? 0 : -1;
    $(`part-${other}`).hidden = !selected;
  }
  tell(params);
}

/** The visitor has chosen a part. */
function turnTo(name) {
  show(name);
  address.note({ step: true });
}

/** What is shown, as an address says it: the first part, as it begins, needs no words. */
function described() {
  const params = PARTS[part].params?.() ?? [];
  if (models.length > 1 && model !== models[0]) params.unshift(["model", model.name]);
  return [part === "compare" && params.length === 0 ? "" : part, params];
}

/** Shows what the address says: at the beginning, and when the Back key or a link has changed it. */
function follow() {
  if (model === null) return;
  const [shownPart, shownParams] = described();
  const { part: wanted, params } = address.read();
  if (wanted === shownPart && params.toString() === new URLSearchParams(shownParams).toString()) return;
  const named = models.find(({ name }) => name === params.get("model")) ?? models[0];
  if (named !== model) take(named);
  show(Object.hasOwn(PARTS, wanted) ? wanted : "compare", params);
}

function startTabs() {
  const names = Object.keys(PARTS);
  for (const name of names) {
    $(`tab-${name}`).addEventListener("click", () => turnTo(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = names[(names.indexOf(name) + step + names.length) % names.length];
      turnTo(next);
      $(`tab-${next}`).focus();
    });
  }
  const { part: wanted } = address.read();
  show(Object.hasOwn(PARTS, wanted) ? wanted : "compare");
}

function startDropping() {
  let inside = 0; // a drag enters and leaves each element on its way
  const carries = (event) => ["Files", "text/uri-list"].some((type) => event.dataTransfer?.types.includes(type));
  addEventListener("dragenter", (event) => {
    if (carries(event)) document.body.classList.toggle("dragging", ++inside > 0);
  });
  addEventListener("dragleave", (event) => {
    if (carries(event)) document.body.classList.toggle("dragging", --inside > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    document.body.classList.remove("dragging");
    PARTS[part].drop(event.dataTransfer);
  });
  addEventListener("paste", (event) => {
    if (!event.clipboardData || document.querySelector("dialog[open]")) return;
    if (PARTS[part].paste?.(event.clipboardData, event.target)) event.preventDefault();
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
function modelsOf(info) {
  const found = Object.entries(info.models).map(([name, model]) => ({
    name,
    kind: name.startsWith("PE-Demo") ? "drawn" : "photograph",
    logitScale: Number(model.logit_scale) || null,
    notice: model.notice ?? null,
  }));
  return found.sort((a, b) => (a.kind === "drawn") - (b.kind === "drawn")); // real ones first
}

function take(chosen) {
  model = chosen;
  $("variant").value = chosen.name;
  showDemo(chosen, models.find(({ notice }) => !notice), choose);
}

/** The visitor has chosen a model. */
function choose(name) {
  take(models.find((one) => one.name === name));
  tell();
  address.note({ step: true });
}

/**
 * The part that is shown, of the model, and of what an address says. Another one learns of the model when it is shown: it
 * need not ask anything before.
 */
function tell(params) {
  if (model === null) return;
  if (told[part] === model) {
    if (params) PARTS[part].open?.(params);
    return;
  }
  const first = told[part] === undefined;
  told[part] = model;
  const said = address.read();
  const begins = said.part === part || (said.part === "" && part === "compare") ? said.params : new URLSearchParams();
  PARTS[part].use(model, params ?? (first ? begins : undefined));
}

async function connect() {
  showTrouble("trouble", null);
  try {
    const info = await api.info();
    models = modelsOf(info);
    if (models.length === 0) throw new Error("The server is there, but no model is ready yet.");
    search.limit(info.limits);
    classify.limit(info.limits);
  } catch (error) {
    showTrouble("trouble", error.message, connect);
    return;
  }
  const select = $("variant");
  select.replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
  select.disabled = models.length < 2;
  select.onchange = () => choose(select.value);
  const wanted = address.read().params.get("model");
  take(models.find(({ name }) => name === wanted) ?? models[0]);
  tell();
}

startTabs();
startDropping();
startKey();
addresses.start();
address.describedBy(described);
for (const change of ["popstate", "hashchange"]) addEventListener(change, follow);
compare.start();
search.start({
  onCompare: (picture) => {
    show("compare");
    compare.take(picture);
  },
});
classify.start();
connect();
