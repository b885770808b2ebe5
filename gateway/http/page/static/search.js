// Search: a set of pictures, embedded once, kept in this browser, and searched by words, by a picture, or by eye.

import * as address from "./address.js";
import { asker } from "./addresses.js";
import { embedAddress, embedPictures, embedTexts } from "./api.js";
import { signed } from "./bars.js";
import { sendInBatches } from "./batches.js";
import { $, choose, chosen, element, onChosen, picker, plural, showTrouble } from "./dom.js";
import { startExport } from "./exports.js";
import { fitOf, GOOD } from "./fit.js";
import { addressesIn, dropped, isField, nameOf, pasted } from "./incoming.js";
import { PictureMap } from "./map.js";
import { dot } from "./maths.js";
import { Panel } from "./panel.js";
import { fetchSample, isPicture, thumbnail } from "./pictures.js";
import { SAMPLES } from "./samples.js";
import * as store from "./store.js";
import * as undo from "./undo.js";

const PATIENCE = 30; // tries of one request while the server is busy: whoever adds a folder can wait, or cancel
const DEBOUNCE = 150; // milliseconds after the last key
const PAGE = 60; // results shown at first, and more each time
const OUTLINED = 12; // results that stand out on the map, at most
const ALIKE = 6; // of those like a picture: how alike is alike, nobody knows

let variant = null;
let limits = { max_items: 16, max_body_bytes: Infinity };
let pictures = []; // of this variant, in the order they came
let query = null; // {embedding, text? or picture? or file?} or null: nothing asked
let fit = null; // of the query's words to pictures, once it is known
let shown = PAGE;
let embedding = null; // AbortController of the run that adds pictures
let asking = new AbortController();
let debounce;
let map;
let panel;
const urls = new Map(); // id -> object URL of a small copy
const originals = new Map(); // id -> file, while the page is open

/** @param {{onCompare: (picture: object) => void}} options called with a picture to compare with words */
export function start({ onCompare }) {
  picker("choose-folder", "folder-files", add);
  picker("choose-pictures", "picture-files", add);
  asker("add-addresses", add);
  picker("by-picture", "query-file", ([file]) => askBy({ file }));
  $("use-samples").addEventListener("click", addSamples);
  $("cancel").addEventListener("click", () => embedding?.abort());
  $("clear").addEventListener("click", clear);
  $("more").addEventListener("click", () => ((shown += PAGE), render()));
  $("like-clear").addEventListener("click", () => {
    ask(null);
    address.note({ step: true });
    $("query").focus();
  });
  $("query-form").addEventListener("submit", (event) => (event.preventDefault(), askByText()));
  $("query").addEventListener("input", () => {
    clearTimeout(debounce);
    debounce = setTimeout(askByText, DEBOUNCE);
  });
  onChosen("view", () => (render(), address.note({ step: true })));
  startExport(() => ({ model: variant.name, pictures, ranked: query && ranked() }));
  map = new PictureMap($("map-view"), (picture) => panel.open(picture, ranked()));
  panel = new Panel({
    fileOf: (picture) => originals.get(picture.id) ?? picture.thumbnail,
    onSimilar: (picture) => (askLike(picture), address.note()),
    onCompare: (picture) => {
      const file = originals.get(picture.id) ?? picture.thumbnail ?? undefined;
      onCompare({ name: base(picture.name), file, embedding: picture.embedding });
    },
  });
  undo.start();
}

/** What the server takes in one request, from its /info. */
export function limit(known) {
  limits = { ...limits, ...known };
}

/** A model was chosen: its own pictures are shown, since embeddings of different models cannot be compared. */
export async function use(model, params = new URLSearchParams()) {
  embedding?.abort();
  undo.withdraw();
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
  await open(params);
}

/** Shows what an address says; pictures are those of this browser. */
export async function open(params) {
  choose("view", params.get("view") === "map" ? "map" : "list");
  const like = pictures.find(({ name }) => name === params.get("like"));
  $("query").value = params.get("q") ?? "";
  if (like) ask({ embedding: like.embedding, picture: like });
  else if ($("query").value) await askByText();
  else ask(null);
}

/** What of this part an address can say. */
export function params() {
  const said = [];
  const text = $("query").value.trim();
  if (query?.picture) said.push(["like", query.picture.name]);
  else if (text) said.push(["q", text]);
  if (chosen("view") === "map") said.push(["view", "map"]);
  return said;
}

export async function drop(transfer) {
  const { files, addresses } = await dropped(transfer);
  add(addresses.length ? addresses : files);
}

/** Whether a paste was for this part. Into the query, a picture is what is looked for. */
export function paste(transfer, target) {
  const intoField = isField(target);
  const { files, addresses } = pasted(transfer);
  const shown = files.filter(isPicture);
  if (shown.length && intoField) askBy({ file: shown[0] });
  else if (shown.length) add(shown);
  else if (addresses.length && !intoField) add(addresses);
  else return false;
  return true;
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

/** A file, or an address that the server fetches: then neither it nor this browser keeps a copy, and there is none to show. */
const nameIn = (source) => (isAddress(source) ? nameOf(source) : source.webkitRelativePath || source.name);
const isAddress = (source) => typeof source === "string";
const idOf = (source) =>
  [variant.name, ...(isAddress(source) ? [source] : [nameIn(source), source.size, source.lastModified])].join("\n");

async function add(sources) {
  undo.withdraw();
  if (embedding) return showTrouble("search-trouble", "Pictures are being added. Wait for them, or cancel.");
  const have = new Set(pictures.map(({ id }) => id));
  const given = [...new Set(sources)].filter((source) => isAddress(source) || isPicture(source));
  const wanted = given.filter((source) => !have.has(idOf(source)));
  if (wanted.length === 0) {
    const said = given.length ? "These pictures are all here already." : "There are no pictures among these files.";
    return showTrouble("search-trouble", said);
  }
  showTrouble("search-trouble", null);
  const controller = (embedding = new AbortController());
  const run = { done: 0, of: wanted.length, refused: [], signal: controller.signal, model: variant };
  $("progress").hidden = false;
  showProgress(run);
  try {
    await sendInBatches(wanted, {
      limits,
      sizeOf: (source) => source.size ?? source.length,
      send: (batch) => embed(batch, run),
      refuse: (source, error) => refuse(source, error, run),
      controller,
    });
  } catch (error) {
    const left = `${error.message} ${plural(run.of - run.done, "picture")} not added yet.`;
    showTrouble("search-trouble", left, () => add(wanted));
  } finally {
    embedding = null;
    $("progress").hidden = true;
  }
  if (run.refused.length && $("search-trouble").hidden) showTrouble("search-trouble", refusal(run.refused));
  if (run.model === variant) render();
}

/** Embeds what is in one request, and keeps what it finds. */
async function embed(sources, run) {
  const onWait = (seconds) => showProgress(run, `The server is busy; trying again in ${Math.ceil(seconds)} s.`);
  const options = { variant: run.model.name, signal: run.signal, tries: PATIENCE, onWait };
  const { rows } = await embedPictures(sources, options);
  const added = await Promise.all(
    sources.map(async (source, i) => ({
      id: idOf(source),
      variant: run.model.name,
      name: nameIn(source),
      embedding: rows[i],
      thumbnail: isAddress(source) ? null : await thumbnail(source),
    })),
  );
  run.signal.throwIfAborted();
  added.forEach(({ id }, i) => isAddress(sources[i]) || originals.set(id, sources[i]));
  await keep(added);
  pictures.push(...added);
  run.done += sources.length;
  showProgress(run);
  render();
}

async function keep(added) {
  try {
    await store.save(added);
  } catch {
    showTrouble("search-trouble", "This browser has no room to keep more; the rest is gone when the page is closed.");
  }
}

function refuse(source, error, run) {
  const told = isAddress(source)
    ? `${nameOf(source)}: The server does not take this address: ${error?.cause ?? error?.message ?? "it is too long."}`
    : `${source.name} is ${error ? "no picture that the server can read" : "too large for this server"}.`;
  run.refused.push(told);
  run.done += 1;
  showProgress(run);
}

const refusal = (refused) => (refused.length === 1 ? `Left out: ${refused[0]}` : `${refused.length} left out. The first: ${refused[0]}`);

function showProgress(run, waiting = "") {
  $("progress-bar").max = run.of;
  $("progress-bar").value = run.done;
  $("progress-text").textContent = waiting || `${run.done.toLocaleString("en")} of ${plural(run.of, "picture")}`;
}

/** The page forgets the pictures at once, so what is added next comes after. The browser's copies follow. */
async function clear() {
  embedding?.abort();
  const [removed, model] = [pictures, variant];
  pictures = [];
  showTrouble("search-trouble", null);
  map.clear();
  ask(null);
  address.note({ step: true });
  undo.offer(`${plural(removed.length, "picture")} removed.`, async () => {
    pictures = [...removed, ...pictures];
    await keep(removed);
    render();
    $("query").focus();
  });
  try {
    await store.clear(model.name);
  } catch {
    showTrouble("search-trouble", "This browser did not let go of the pictures: they are back when the page is loaded again.");
  }
}

// -- asking

function ask(next) {
  asking.abort();
  query = next;
  fit = null;
  shown = PAGE;
  if (!next?.text && !next?.typed) $("query").value = "";
  render();
  if (next?.text) judge(next);
}

/** Learns whether the words fit any picture. */
async function judge(asked) {
  const found = await fitOf(variant);
  if (asked !== query || !found) return;
  fit = (picture) => found(picture.embedding, asked.embedding);
  render();
}

/** What is in the field: words, or the address of a picture. */
async function askByText() {
  clearTimeout(debounce);
  const text = $("query").value.trim();
  const [url] = addressesIn(text);
  address.note({ step: text !== "" && !address.read().params.has("q") }); // one step for all that is typed
  if (url) return askServer((options) => embedAddress(url, options), { file: { name: nameOf(url) }, typed: true }, askByText);
  await askServer(text ? (options) => embedTexts([text], options) : null, { text }, askByText);
}

async function askBy({ file }) {
  await askServer((options) => embedPictures([file], options), { file }, () => askBy({ file }));
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

/** All pictures, the best first if something was asked: [{picture, score}]. */
function ranked() {
  if (!query) return pictures.map((picture) => ({ picture, score: null }));
  const scored = pictures.map((picture) => ({ picture, score: dot(query.embedding, picture.embedding) }));
  return scored.sort((a, b) => b.score - a.score);
}

function render() {
  const some = pictures.length > 0;
  document.body.classList.toggle("has-pictures", some);
  $("clear").hidden = !some;
  const names = new Set(pictures.map(({ name }) => name));
  $("use-samples").hidden = samples().every(({ file }) => names.has(file));
  $("found").hidden = !some;
  $("export-ranking").hidden = query === null;
  if (!some) return;
  const inOrder = ranked();
  const asMap = chosen("view") === "map";
  renderLike();
  const none = fit !== null && fit(inOrder[0].picture) < GOOD[variant.kind];
  $("found-text").textContent = said(none);
  $("found-text").classList.toggle("nothing-fits", none);
  $("results").hidden = asMap;
  $("map-view").hidden = !asMap;
  $("more").hidden = asMap || inOrder.length <= shown;
  if (asMap) map.show(pictures, { ranked: query && inOrder, outlined: outlined(inOrder), urlOf });
  else $("results").replaceChildren(...inOrder.slice(0, shown).map((one) => result(one, inOrder)));
}

/** Ids of the pictures that answer the question. */
function outlined(inOrder) {
  if (!query) return new Set();
  const first = inOrder.slice(0, query.text ? OUTLINED : ALIKE).map(({ picture }) => picture);
  return new Set(first.filter((picture) => fit === null || fit(picture) >= GOOD[variant.kind]).map(({ id }) => id));
}

function said(none) {
  const count = plural(pictures.length, "picture");
  if (!query) return count;
  if (none) return `No good match for “${query.text}” among ${count}, it seems. The nearest first.`;
  return `${count}, ${query.text ? `“${query.text}” first` : "the most alike first"}`;
}

function renderLike() {
  const like = query?.picture ?? query?.file ?? null;
  $("like").hidden = like === null;
  if (like === null) return;
  if (query.file instanceof Blob) query.url ??= URL.createObjectURL(query.file);
  const url = query.picture ? urlOf(query.picture) : query.url;
  $("like-picture").hidden = !url;
  if (url) $("like-picture").src = url;
  $("like-name").textContent = `Like ${like.name}`;
}

function result({ picture, score }, inOrder) {
  const url = urlOf(picture);
  const image = url ? element("img", { src: url, alt: "", loading: "lazy" }) : element("span", { class: "blank" }, "no preview");
  const value = score === null ? "" : signed(score);
  const caption = element("span", { class: "caption" }, element("span", { class: "name" }, base(picture.name)), element("b", {}, value));
  const button = element("button", { title: picture.name, "data-name": picture.name }, element("span", { class: "frame" }, image), caption);
  button.addEventListener("click", () => panel.open(picture, inOrder));
  return element("li", {}, button);
}

const base = (path) => path.slice(path.lastIndexOf("/") + 1);

function urlOf(picture) {
  if (!picture.thumbnail) return null;
  if (!urls.has(picture.id)) urls.set(picture.id, URL.createObjectURL(picture.thumbnail));
  return urls.get(picture.id);
}
