// Classify: a set of pictures, and which of some classes each of them fits best.
//
// Pictures are embedded once. The classes can then change as often as one likes, and no picture is sent again.

import { note } from "./address.js";
import { asker } from "./addresses.js";
import { embedPictures, embedTexts } from "./api.js";
import { sendInBatches } from "./batches.js";
import { csvFile } from "./csv.js";
import { $, picker, plural, showTrouble } from "./dom.js";
import { download } from "./download.js";
import { dropped, isField, pasted } from "./incoming.js";
import { fetchSample, isPicture, thumbnail } from "./pictures.js";
import { SAMPLES } from "./samples.js";
import * as store from "./store.js";
import { Table } from "./table.js";
import { PLACE, classify, promptOf, readClasses } from "./zero_shot.js";

const PATIENCE = 30; // tries of one request while the server is busy: whoever adds a folder can wait, or cancel
const DEBOUNCE = 250; // milliseconds after the last key
const FIRST = {
  drawn: { classes: ["circle", "square", "triangle", "star", "heart", "ring", "diamond", "arrow", "cross"], template: "a drawing of a {}" },
  photograph: { classes: ["cat", "person", "cup of coffee", "rocket", "clock"], template: "a photo of a {}" },
};

/**
 * @typedef {{id: string, place: number, name: string, source: File | string | null, embedding: Float32Array | null, image: string | null,
 * error: string | null, found: object[] | null}} Item
 * `place`: among all that were chosen, since requests are not done in their order. `source`: a file or an address; null:
 * its embedding comes from the search. `image`: the URL of a small copy. `found`: null until the classes are known.
 */

let variant = null; // {name, logitScale, kind}
let limits = { max_items: 16, max_texts: 16, max_body_bytes: Infinity };
let items = []; // done, in the order of their places
let places = 0; // that were given
let cleared = []; // those of the last "Clear", until others are added
let known = new Map(); // prompt -> embedding, of this variant
let tooLong = new Set(); // prompts that the model does not read to their end
let classes = []; // {name, embedding}, as they are written; empty while some are unknown
let touched = false; // the visitor has written classes
let adding = null; // AbortController of the run that adds pictures
let labelling = new AbortController();
let debounce;
let table;

export function start() {
  picker("classify-folder", "classify-folder-files", addFiles);
  picker("classify-pictures", "classify-picture-files", addFiles);
  asker("classify-addresses", addAddresses);
  $("classify-samples").addEventListener("click", addSamples);
  $("classify-search").addEventListener("click", addSearched);
  $("classify-cancel").addEventListener("click", cancel);
  $("classify-clear").addEventListener("click", clear);
  $("classify-undo").addEventListener("click", undo);
  $("classify-csv").addEventListener("click", () => download(asCsv(table.shown), "classes.csv"));
  for (const id of ["classes", "template"]) $(id).addEventListener("input", changed);
  table = new Table({
    counts: $("class-counts"),
    table: $("classified-table"),
    more: $("classified-more"),
    onChange: renderText,
  });
}

/** What the server takes in one request, from its /info. */
export function limit(known) {
  limits = { ...limits, ...known };
}

/** A model was chosen: what is here is asked anew. With `params` of an address, the classes are those that they say. */
export async function use(model, params = null) {
  adding?.abort();
  variant = model;
  [known, tooLong, classes] = [new Map(), new Set(), []];
  if (params) read(params);
  else if (!touched) begin();
  const again = items.filter(({ source }) => source !== null);
  release(items);
  [items, cleared] = [[], []];
  render();
  embedClasses();
  await add(again);
}

/** Shows what an address says; pictures are those of this browser. */
export function open(params) {
  read(params);
  embedClasses();
}

/** What of this part an address can say: the classes and the prompt, once a visitor has written some. */
export function params() {
  if (!touched) return [];
  return [...readClasses($("classes").value).map((name) => ["class", name]), ["prompt", $("template").value.trim()]];
}

function read(params) {
  const names = params.getAll("class");
  begin();
  if (names.length === 0) return;
  touched = true;
  $("classes").value = names.join("\n");
  $("template").value = params.get("prompt") ?? "";
}

/** Classes to begin with. */
function begin() {
  touched = false;
  $("classes").value = FIRST[variant.kind].classes.join("\n");
  $("template").value = FIRST[variant.kind].template;
}

export async function drop(transfer) {
  const { files, addresses } = await dropped(transfer);
  if (addresses.length) addAddresses(addresses);
  else addFiles(files);
}

/** Whether a paste was for this part: pictures, or addresses of pictures. Text in a field is left to the field. */
export function paste(transfer, target) {
  const { files, addresses } = pasted(transfer);
  const pictures = files.filter(isPicture);
  if (pictures.length) addFiles(pictures);
  else if (addresses.length && !isField(target)) addAddresses(addresses);
  else return false;
  return true;
}

// -- the pictures

const fileItem = (file) => {
  const name = file.webkitRelativePath || file.name;
  return { id: [name, file.size, file.lastModified].join("\n"), name, source: file };
};

async function addFiles(files) {
  const pictures = files.filter(isPicture);
  if (pictures.length) await add(pictures.map(fileItem));
  else showTrouble("classify-trouble", "There are no pictures among these files.");
}

async function addAddresses(addresses) {
  await add(addresses.map((address) => ({ id: address, name: address, source: address })));
}

const samples = () => SAMPLES.filter(({ kind }) => kind === variant?.kind);

async function addSamples() {
  try {
    await addFiles(await Promise.all(samples().map(fetchSample)));
  } catch {
    showTrouble("classify-trouble", "The server does not answer.", addSamples);
  }
}

/** Those of the search have embeddings already: nothing is sent. */
async function addSearched() {
  const stored = variant ? await store.load(variant.name).catch(() => []) : [];
  const have = new Set(items.map(({ id }) => id));
  const wanted = stored.filter(({ id }) => !have.has(id));
  if (wanted.length === 0) {
    const said = stored.length ? "The pictures of the search are all here." : "The search has no pictures of this model.";
    return showTrouble("classify-trouble", said);
  }
  showTrouble("classify-trouble", null);
  for (const { id, name, embedding, thumbnail } of wanted) keep({ id, place: places++, name, source: null }, embedding, thumbnail);
  render();
}

async function add(wanted) {
  if (!variant || wanted.length === 0) return;
  if (adding) return showTrouble("classify-trouble", "Pictures are being added. Wait for them, or cancel.");
  const have = new Set(items.map(({ id }) => id));
  const fresh = wanted.filter(({ id }) => !have.has(id) && have.add(id)).map((item) => ({ ...item, place: places++ }));
  if (fresh.length === 0) return showTrouble("classify-trouble", "These pictures are all here already.");
  showTrouble("classify-trouble", null);
  const controller = (adding = new AbortController());
  const before = items.length;
  const progress = (waiting) => showProgress(items.length - before, fresh.length, waiting);
  $("classify-progress").hidden = false;
  progress();
  try {
    await sendInBatches(fresh, {
      limits,
      sizeOf: ({ source }) => source.size ?? source.length,
      send: (batch) => embed(batch, controller.signal, progress),
      refuse: (item, error) => (fail(item, error), progress()),
      controller,
    });
  } catch (error) {
    const left = fresh.length - (items.length - before);
    showTrouble("classify-trouble", `${error.message} ${plural(left, "picture")} not added yet.`, () => add(wanted));
  } finally {
    if (adding === controller) {
      adding = null;
      $("classify-progress").hidden = true;
    }
  }
  if (!controller.signal.aborted) render();
}

async function embed(batch, signal, progress) {
  const onWait = (seconds) => progress(`The server is busy; trying again in ${Math.ceil(seconds)} s.`);
  const sources = batch.map(({ source }) => source);
  const { rows } = await embedPictures(sources, { variant: variant.name, signal, tries: PATIENCE, onWait });
  const copies = await Promise.all(sources.map((source) => (typeof source === "string" ? null : thumbnail(source))));
  signal.throwIfAborted();
  batch.forEach((item, i) => keep(item, rows[i], copies[i]));
  progress();
  render();
}

function keep(item, embedding, copy) {
  if (items.length === 0) forget();
  items.push({ ...item, embedding, image: copy && URL.createObjectURL(copy), error: null, found: null });
}

function fail(item, error) {
  const most = (limits.max_body_bytes / 1e6).toFixed(1);
  const said = error?.said ?? error?.message ?? `The file is larger than the ${most} MB that this server takes in one request.`;
  items.push({ ...item, embedding: null, image: null, error: said, found: null });
}

function showProgress(done, of, waiting = "") {
  $("classify-bar").max = of;
  $("classify-bar").value = done;
  $("classify-progress-text").textContent = waiting || `${done.toLocaleString("en")} of ${plural(of, "picture")}`;
}

function cancel() {
  adding?.abort();
  adding = null;
  $("classify-progress").hidden = true;
  $("classify-pictures").focus();
  render();
}

function clear() {
  adding?.abort();
  forget();
  [items, cleared] = [[], items];
  showTrouble("classify-trouble", null);
  render();
  $("classify-undo").focus();
}

function undo() {
  [items, cleared] = [cleared, []];
  for (const item of items) item.found = null; // other classes may be written now
  render();
  $("classify-clear").focus();
}

/** Those that were cleared cannot come back any more. */
function forget() {
  release(cleared);
  cleared = [];
}

function release(gone) {
  for (const { image } of gone) if (image) URL.revokeObjectURL(image);
}

// -- the classes

function changed() {
  touched = true;
  clearTimeout(debounce);
  debounce = setTimeout(() => (note(), embedClasses()), DEBOUNCE);
}

async function embedClasses() {
  labelling.abort(); // an older question's answer would come too late
  labelling = new AbortController();
  const { signal } = labelling;
  const names = readClasses($("classes").value);
  const template = $("template").value.trim();
  const wrong = template && !template.includes(PLACE) ? `The prompt needs a ${PLACE} where the class belongs.` : null;
  showTrouble("classes-trouble", wrong ?? (names.length ? null : "Write at least one class."));
  if (wrong || names.length === 0 || !variant) return;
  const prompts = names.map((name) => promptOf(name, template));
  const unknown = [...new Set(prompts)].filter((prompt) => !known.has(prompt));
  const options = { variant: variant.name, signal, onWait: busy };
  try {
    for (let at = 0; at < unknown.length; at += limits.max_texts) {
      const some = unknown.slice(at, at + limits.max_texts);
      const { rows, truncated } = await embedTexts(some, options);
      if (signal.aborted) return;
      some.forEach((prompt, i) => known.set(prompt, rows[i]));
      for (const i of truncated) tooLong.add(some[i]);
    }
  } catch (error) {
    if (signal.aborted) return;
    const again = error.status === 400 || error.status === 413 ? null : embedClasses;
    return showTrouble("classes-trouble", error.said ?? error.message, again);
  }
  showTrouble("classes-trouble", null);
  known = new Map(prompts.map((prompt) => [prompt, known.get(prompt)])); // not those of every key that was pressed
  classes = names.map((name, i) => ({ name, embedding: known.get(prompts[i]) }));
  for (const item of items) item.found = null;
  const cut = names.filter((_, i) => tooLong.has(prompts[i]));
  $("classes-cut").textContent = cut.length ? `The model reads only the beginning of: ${cut.join(", ")}.` : "";
  render();
}

const busy = (seconds) => showTrouble("classes-trouble", `The server is busy. Trying again in ${Math.ceil(seconds)} s.`);

// -- what both come to

function render() {
  const some = items.length > 0;
  document.body.classList.toggle("has-classified", some);
  const names = new Set(items.map(({ name }) => name));
  $("classify-samples").hidden = samples().every(({ file }) => names.has(file));
  $("classify-clear").hidden = !some;
  $("classify-undo").hidden = cleared.length === 0;
  $("classified").hidden = !some;
  items.sort((a, b) => a.place - b.place);
  for (const item of items) item.found ??= item.embedding && classes.length ? classify(item.embedding, classes, variant.logitScale) : null;
  const rows = items.map(({ name, image, error, found }) => ({ name, image, error, found: found ?? [] }));
  table.show(rows, classes.map(({ name }) => name));
}

function renderText() {
  const { shown } = table;
  const count = table.filtered ? `${shown.length.toLocaleString("en")} of ${plural(items.length, "picture")}` : plural(items.length, "picture");
  const failed = items.filter(({ error }) => error).length;
  $("classified-text").textContent = failed ? `${count}; ${failed.toLocaleString("en")} not classified` : count;
  $("classify-csv").textContent = table.filtered ? `Download these ${shown.length.toLocaleString("en")} as CSV` : "Download CSV";
  $("classified-note").textContent = variant?.logitScale
    ? "Probabilities compare these classes with each other. If none of them fits, one is still the most probable, so look at the similarity, too."
    : "This model does not tell its logit scale, so there are similarities and no probabilities.";
}

const asCsv = (rows) =>
  csvFile(
    ["file", "class", "probability", "similarity", "error"],
    rows.map(({ name, error, found: [best] }) => [name, best?.name, best?.probability, best?.similarity, error]),
  );
