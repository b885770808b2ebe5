// Search: a set of pictures, embedded once, kept in this browser, and searched by words, by a picture, or by eye.

import { embedPictures, embedTexts } from "./api.js";
import { $, chosen, element, onChosen, picker, plural, showTrouble } from "./dom.js";
import { startExport } from "./exports.js";
import { PictureMap } from "./map.js";
import { dot } from "./maths.js";
import { droppedFiles, fetchSample, isPicture, thumbnail } from "./pictures.js";
import { SAMPLES } from "./samples.js";
import * as store from "./store.js";

const BATCH = 16; // pictures in one request
const BATCH_BYTES = 8e6; // whichever is reached first
const PATIENCE = 30; // tries of one request while the server is busy: whoever adds a folder can wait, or cancel
const DEBOUNCE = 150; // milliseconds after the last key
const PAGE = 60; // results shown at first, and more each time

let variant = null;
let limits = { max_items: BATCH, max_body_bytes: Infinity };
let pictures = []; // of this variant, in the order they came
let query = null; // {embedding, picture?} or null: nothing asked
let shown = PAGE;
let embedding = null; // AbortController of the run that adds pictures
let asking = new AbortController();
let debounce;
let map;
const urls = new Map(); // id -> object URL of a small copy

export function start() {
  picker("choose-folder", "folder-files", add);
  picker("choose-pictures", "picture-files", add);
  picker("by-picture", "query-file", ([file]) => askByPicture(file));
  $("use-samples").addEventListener("click", addSamples);
  $("cancel").addEventListener("click", () => embedding?.abort());
  $("clear").addEventListener("click", clear);
  $("more").addEventListener("click", () => ((shown += PAGE), render()));
  $("like-clear").addEventListener("click", () => (ask(null), $("query").focus()));
  $("query-form").addEventListener("submit", (event) => (event.preventDefault(), askByText()));
  $("query").addEventListener("input", () => {
    clearTimeout(debounce);
    debounce = setTimeout(askByText, DEBOUNCE);
  });
  onChosen("view", render);
  startExport(() => ({ model: variant.name, pictures, ranked: query && ranking() }));
  map = new PictureMap($("map"), $("map-here"), askLike);
}

/** What the server takes in one request, from its /info. */
export function limit(known) {
  limits = { ...limits, ...known };
}

/** A model was chosen: its own pictures are shown, since embeddings of different models cannot be compared. */
export async function use(model) {
  embedding?.abort();
  variant = model;
  query = null;
  $("query").value = "";
  $("query").placeholder = model.kind === "drawn" ? "a red circle" : "Describe what you look for";
  const name = variant.name;
  try {
    const loaded = await store.load(name);
    if (name !== variant.name) return; // another was chosen meanwhile
    pictures = loaded;
  } catch {
    pictures = [];
    showTrouble("search-trouble", "This browser keeps nothing for this page; pictures are gone when it is closed.");
  }
  map.clear();
  render();
}

export async function drop(transfer) {
  add(await droppedFiles(transfer));
}

// -- adding

const samples = () => SAMPLES.filter(({ kind }) => kind === variant?.kind);

async function addSamples() {
  try {
    await add(await Promise.all(samples().map(fetchSample)));
  } catch {
    showTrouble("search-trouble", "The server does not answer.", addSamples);
  }
}

const idOf = (file) => [variant.name, file.webkitRelativePath || file.name, file.size, file.lastModified].join("\n");

async function add(files) {
  if (embedding) return showTrouble("search-trouble", "Pictures are being added. Wait for them, or cancel.");
  const have = new Set(pictures.map(({ id }) => id));
  const wanted = files.filter((file) => isPicture(file) && !have.has(idOf(file)));
  if (wanted.length === 0) {
    const said = files.some(isPicture) ? "These pictures are all here already." : "There are no pictures among these files.";
    return showTrouble("search-trouble", said);
  }
  showTrouble("search-trouble", null);
  embedding = new AbortController();
  const { signal } = embedding;
  const run = { done: 0, of: wanted.length, refused: [], signal, model: variant };
  $("progress").hidden = false;
  showProgress(run);
  try {
    // Two at a time: while one is embedded, the next is on its way.
    const batches = inBatches(wanted, run);
    const workers = [0, 1].map(async () => {
      for (let batch = batches.next(); !batch.done && !signal.aborted; batch = batches.next()) {
        await embedBatch(batch.value, run);
      }
    });
    await Promise.all(workers);
  } catch (error) {
    const stopped = signal.aborted;
    embedding.abort(); // the other worker, too
    if (!stopped) {
      const left = `${error.message} ${plural(run.of - run.done, "picture")} not added yet.`;
      showTrouble("search-trouble", left, () => add(wanted));
    }
  } finally {
    embedding = null;
    $("progress").hidden = true;
  }
  if (run.refused.length && $("search-trouble").hidden) showTrouble("search-trouble", refusal(run.refused));
  if (run.model === variant) render();
}

function* inBatches(files, run) {
  const most = Math.min(BATCH, limits.max_items);
  let batch = [];
  let bytes = 0;
  for (const file of files) {
    if (file.size > limits.max_body_bytes - 4096) {
      refuse(file, "too large for this server", run);
      continue;
    }
    if (batch.length === most || (batch.length && bytes + file.size > Math.min(BATCH_BYTES, limits.max_body_bytes / 2))) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(file);
    bytes += file.size;
  }
  if (batch.length) yield batch;
}

/** One request; a file that is no picture is left out and the others asked again, a batch too large is halved. */
async function embedBatch(files, run) {
  if (files.length === 0) return;
  try {
    const onWait = (seconds) => showProgress(run, `The server is busy; trying again in ${Math.ceil(seconds)} s.`);
    const options = { variant: run.model.name, signal: run.signal, tries: PATIENCE, onWait };
    const { rows } = await embedPictures(files, options);
    const added = await Promise.all(
      files.map(async (file, i) => ({
        id: idOf(file),
        variant: run.model.name,
        name: file.webkitRelativePath || file.name,
        embedding: rows[i],
        thumbnail: await thumbnail(file),
      })),
    );
    run.signal.throwIfAborted();
    await keep(added);
    pictures.push(...added);
    run.done += files.length;
    showProgress(run);
    render();
  } catch (error) {
    if (error.status === 400 && (error.index !== null || files.length === 1)) {
      const [refused] = files.splice(error.index ?? 0, 1);
      refuse(refused, "no picture that the server can read", run);
      await embedBatch(files, run);
    } else if (error.status === 413 && files.length > 1) {
      const half = Math.ceil(files.length / 2);
      await embedBatch(files.slice(0, half), run);
      await embedBatch(files.slice(half), run);
    } else if (error.status === 413) {
      refuse(files[0], "too large for this server", run);
    } else {
      throw error;
    }
  }
}

async function keep(added) {
  try {
    await store.save(added);
  } catch {
    showTrouble("search-trouble", "This browser has no room to keep more; the rest is gone when the page is closed.");
  }
}

function refuse(file, why, run) {
  run.refused.push([file.name, why]);
  run.done += 1;
  showProgress(run);
}

function refusal(refused) {
  const [name, why] = refused[0];
  return refused.length === 1 ? `Left out: ${name} is ${why}.` : `${refused.length} files left out, ${name} the first: it is ${why}.`;
}

function showProgress(run, waiting = "") {
  $("progress-bar").max = run.of;
  $("progress-bar").value = run.done;
  $("progress-text").textContent = waiting || `${run.done.toLocaleString("en")} of ${plural(run.of, "picture")}`;
}

async function clear() {
  embedding?.abort();
  try {
    await store.clear();
  } finally {
    for (const url of urls.values()) URL.revokeObjectURL(url);
    urls.clear();
    pictures = [];
    showTrouble("search-trouble", null);
    map.clear();
    ask(null);
    $("choose-pictures").focus();
  }
}

// -- asking

function ask(next) {
  query = next;
  shown = PAGE;
  if (!next?.text) $("query").value = "";
  render();
}

async function askByText() {
  clearTimeout(debounce);
  const text = $("query").value.trim();
  await askServer(text ? (options) => embedTexts([text], options) : null, { text }, askByText);
}

async function askByPicture(file) {
  const again = () => askByPicture(file);
  await askServer((options) => embedPictures([file], options), { file }, again);
}

async function askServer(embed, what, again) {
  asking.abort(); // an older question's answer would come too late
  asking = new AbortController();
  const { signal } = asking;
  if (!embed) return ask(null);
  try {
    const { rows } = await embed({ variant: variant.name, signal });
    if (signal.aborted) return;
    showTrouble("search-trouble", null);
    ask({ embedding: rows[0], ...what });
  } catch (error) {
    if (!signal.aborted) showTrouble("search-trouble", error.message, error.status === 400 ? null : again);
  }
}

/** Those like one that is here: its embedding is known, nothing is sent. */
function askLike(picture) {
  ask({ embedding: picture.embedding, picture });
  $("like-clear").focus();
}

// -- showing

function render() {
  const some = pictures.length > 0;
  document.body.classList.toggle("has-pictures", some);
  $("clear").hidden = !some;
  const names = new Set(pictures.map(({ name }) => name));
  $("use-samples").hidden = samples().every(({ file }) => names.has(file));
  $("found").hidden = !some;
  $("export-ranking").hidden = query === null;
  if (!some) return;
  const ranked = query ? ranking() : pictures.map((picture) => ({ picture, score: null }));
  const asMap = chosen("view") === "map";
  renderLike();
  $("found-text").textContent = said();
  $("results").hidden = asMap;
  $("map-view").hidden = !asMap;
  $("more").hidden = asMap || ranked.length <= shown;
  if (asMap) map.show(pictures, query ? ranked : null, urlOf);
  else $("results").replaceChildren(...ranked.slice(0, shown).map(result));
}

function ranking() {
  const scored = pictures.map((picture) => ({ picture, score: dot(query.embedding, picture.embedding) }));
  return scored.sort((a, b) => b.score - a.score);
}

function said() {
  const count = plural(pictures.length, "picture");
  if (!query) return count;
  return `${count}, ${query.text ? `“${query.text}” first` : "the most alike first"}`;
}

function renderLike() {
  const like = query?.picture ?? query?.file ?? null;
  $("like").hidden = like === null;
  if (like === null) return;
  if (query.file) query.url ??= URL.createObjectURL(query.file);
  $("like-picture").src = query.picture ? (urlOf(query.picture) ?? "") : query.url;
  $("like-name").textContent = `Like ${like.name}`;
}

function result({ picture, score }) {
  const url = urlOf(picture);
  const image = url ? element("img", { src: url, alt: "", loading: "lazy" }) : element("span", { class: "blank" }, "no preview");
  const value = score === null ? "" : score.toFixed(3).replace("-", "−");
  const caption = element("span", { class: "caption" }, element("span", { class: "name" }, base(picture.name)), element("b", {}, value));
  const title = `${picture.name}: find those like it`;
  const button = element("button", { title, "data-name": picture.name }, element("span", { class: "frame" }, image), caption);
  button.addEventListener("click", () => askLike(picture));
  return element("li", {}, button);
}

const base = (path) => path.slice(path.lastIndexOf("/") + 1);

function urlOf(picture) {
  if (!picture.thumbnail) return null;
  if (!urls.has(picture.id)) urls.set(picture.id, URL.createObjectURL(picture.thumbnail));
  return urls.get(picture.id);
}
