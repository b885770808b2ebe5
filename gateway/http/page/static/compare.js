// Compare: one picture, some labels, and how well each fits.

import { note } from "./address.js";
import { embedAddress, embedPictures, embedTexts } from "./api.js";
import { percent, showScores, signed } from "./bars.js";
import { $, choose, chosen, element, onChosen, picker, showTrouble } from "./dom.js";
import { download } from "./download.js";
import { comparisonCsv } from "./exports.js";
import { fitOf, GOOD } from "./fit.js";
import { dropped, isField, nameOf, pasted } from "./incoming.js";
import { LabelList } from "./labels.js";
import { dot, softmax } from "./maths.js";
import { fetchSample, isPicture } from "./pictures.js";
import * as request from "./request.js";
import { SAMPLES } from "./samples.js";
import { showTiming } from "./timing.js";

const DEBOUNCE = 150; // milliseconds after the last key
const ANNOUNCE = 1000; // milliseconds of quiet before a screen reader is told
const SHOWN_SAMPLES = 8;
const HINT = "Drop a picture here, or paste one.";

/**
 * @typedef {{name: string, file?: Blob, address?: string, sample?: object, embedding?: Float32Array}} Picture
 * A file of the visitor's, an address that the server fetches, or a sample; `embedding`: of the model in use.
 */

let variant = null; // {name, logitScale, kind}
let picture = null; // Picture
let labels; // LabelList
let fit = null; // of the model in use, once it is needed
const own = new Map(); // name -> Picture that the visitor gave, to come back to
let known = new Map(); // text -> embedding, of this variant
let tooLong = new Set(); // texts that the model does not read to their end
let touched = false; // the visitor has written labels
let pictureWork = new AbortController();
let labelsWork = new AbortController();
let debounce, announcement;

export function start() {
  labels = new LabelList($("labels"), changed);
  picker("choose", "choose-file", ([file]) => giveFile(file));
  picker("shoot", "shoot-file", ([file]) => giveFile(file));
  $("address-form").addEventListener("submit", (event) => {
    event.preventDefault();
    giveAddress($("address").value.trim());
  });
  $("add-label").addEventListener("click", () => labels.add("").focus());
  $("fitting-labels").addEventListener("click", () => {
    offerLabels(picture.sample);
    render();
    embedLabels();
    note({ step: true });
  });
  $("compare-csv").addEventListener("click", () => download(comparisonCsv(results()), "comparison.csv"));
  onChosen("scores", () => (render(), note()));
  request.start();
}

/** A model was chosen: what is on the page is asked anew. With `params` of an address, what they say is shown. */
export function use(model, params = null) {
  variant = model;
  known = new Map();
  tooLong = new Set();
  fit = null;
  const percentages = document.querySelector('input[name="scores"][value="percent"]');
  percentages.disabled = !variant.logitScale;
  choose("scores", variant.logitScale ? "percent" : "cosine");
  showSamples();
  if (params) return open(params);
  const stays = picture && (picture.sample ? picture.sample.kind === variant.kind : picture.file || picture.address);
  return setPicture(stays ? { ...picture, embedding: undefined } : sampled(samples()[0]));
}

/** Shows what an address says. */
export function open(params) {
  if (params.get("bars") === "cosine") choose("scores", "cosine");
  else if (variant.logitScale) choose("scores", "percent");
  const written = params.getAll("label");
  const next = addressed(params);
  touched = written.length > 0;
  if (touched) labels.set(written);
  else offerLabels(next.sample);
  return setPicture(next);
}

/** What of this part an address can say. A picture of the visitor's stays in this browser: only its name is said. */
export function params() {
  const said = [];
  if (picture?.sample && picture.sample !== samples()[0]) said.push(["sample", picture.sample.file]);
  else if (picture?.address) said.push(["url", picture.address]);
  else if (picture && !picture.sample) said.push(["picture", picture.name]);
  if (touched) said.push(...labels.texts.map((text) => ["label", text]));
  if (variant?.logitScale && chosen("scores") === "cosine") said.push(["bars", "cosine"]);
  return said;
}

function addressed(params) {
  const sample = SAMPLES.find(({ file }) => file === params.get("sample"));
  if (sample) return sampled(sample);
  const address = params.get("url");
  if (address && URL.canParse(address)) return { name: nameOf(address), address };
  return own.get(params.get("picture")) ?? sampled(samples()[0]);
}

/** What was dropped on the page while this part of it is shown. */
export async function drop(transfer) {
  const { files, addresses } = await dropped(transfer);
  const file = files.find(isPicture);
  if (file) giveFile(file);
  else if (addresses.length) giveAddress(addresses[0]);
  else showTrouble("picture-trouble", "That was no picture file. A picture from a web page has to be saved first.");
}

/** Whether a paste was for this part; into a field, only a file is. */
export function paste(transfer, target) {
  const intoField = isField(target);
  const { files, addresses } = pasted(transfer);
  const file = files.find(isPicture);
  if (file) giveFile(file);
  else if (addresses.length && !intoField) giveAddress(addresses[0]);
  else return false;
  return true;
}

/** Compares a picture of the search, in the place in the history that it leaves. */
export function take(given) {
  own.set(given.name, given);
  setPicture(given);
  note();
}

// -- the picture

const samples = () => SAMPLES.filter(({ kind }) => kind === variant?.kind);
const sampled = (sample) => ({ name: sample.file, sample });

function giveFile(file) {
  give({ name: file.name, file });
}

function giveAddress(address) {
  if (!URL.canParse(address)) return showTrouble("picture-trouble", "That is no address of a picture.");
  give({ name: nameOf(address), address });
}

function give(given) {
  if (given.file) own.set(given.name, given);
  setPicture(given);
  note({ step: true });
}

function showSamples() {
  $("samples").replaceChildren(
    ...samples().slice(0, SHOWN_SAMPLES).map((sample) => {
      const image = element("img", { src: `page/samples/${sample.file}`, alt: sample.alt, width: 64, height: 64 });
      const button = element("button", { "data-sample": sample.file, "aria-pressed": "false" }, image);
      button.addEventListener("click", () => {
        if (!touched) offerLabels(sample);
        give(sampled(sample));
      });
      return element("li", {}, button);
    }),
  );
}

async function setPicture(next) {
  pictureWork.abort();
  pictureWork = new AbortController();
  const { signal } = pictureWork;
  picture = next;
  showTrouble("picture-trouble", null);
  showPicture();
  render();
  $("well").setAttribute("aria-busy", "true");
  try {
    if (!picture.embedding) await embed(next, signal);
    if (signal.aborted) return;
    showTrouble("picture-trouble", null);
    render();
    await embedLabels();
  } catch (error) {
    if (signal.aborted) return;
    showTrouble("picture-trouble", error.message, retry(error, () => setPicture(next)));
    if (next.file) $("well-hint").textContent = HINT; // and no hope that the server might read what the browser cannot
  } finally {
    if (!signal.aborted) $("well").removeAttribute("aria-busy");
  }
}

async function embed(given, signal) {
  const options = { variant: variant.name, signal, onWait: waiting("picture-trouble") };
  const file = given.sample ? await fetchSample(given.sample) : given.file;
  if (signal.aborted) return;
  const answer = await (file ? embedPictures([file], options) : embedAddress(given.address, options));
  if (signal.aborted) return;
  given.embedding = answer.rows[0];
  showTiming("picture", "Picture", answer);
}

function showPicture() {
  const { name, file, address, sample } = picture;
  const image = $("picture");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.hidden = !sample && !file;
  if (image.hidden) image.removeAttribute("src");
  else image.src = sample ? `page/samples/${sample.file}` : URL.createObjectURL(file);
  image.alt = sample?.alt ?? name;
  image.onerror = () => {
    image.hidden = true;
    $("well-hint").textContent = "This browser cannot show the file; the server may read it all the same.";
  };
  $("well-hint").textContent = address ? "The server fetches this picture. The page shows none from other hosts." : HINT;
  $("picture-name").textContent = sample?.alt ?? address ?? (file ? `${name}, ${size(file.size)}` : name);
  for (const button of $("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.sample === sample?.file));
  }
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// -- the labels

/** Those that go with a sample; with a picture of the visitor's, those that are there, or some to begin with. */
function offerLabels(sample) {
  touched = false;
  if (sample || labels.texts.length === 0) labels.set((sample ?? samples()[0]).labels);
}

function changed() {
  touched = true;
  render();
  note();
  clearTimeout(debounce);
  debounce = setTimeout(embedLabels, DEBOUNCE);
}

async function embedLabels() {
  labelsWork.abort(); // an older question's answer would come too late
  labelsWork = new AbortController();
  const { signal } = labelsWork;
  const unknown = [...new Set(labels.texts)].filter((text) => !known.has(text));
  if (unknown.length === 0 || !variant || !picture?.embedding) return;
  try {
    const answer = await embedTexts(unknown, { variant: variant.name, signal, onWait: waiting("labels-trouble") });
    if (signal.aborted) return;
    unknown.forEach((text, index) => known.set(text, answer.rows[index]));
    for (const index of answer.truncated) tooLong.add(unknown[index]);
    showTrouble("labels-trouble", null);
    showTiming("labels", unknown.length === 1 ? "1 label" : `${unknown.length} labels`, answer);
    render();
  } catch (error) {
    if (!signal.aborted) showTrouble("labels-trouble", error.message, retry(error, embedLabels));
  }
}

// -- what both come to

function render() {
  const scored = labels.rows.map(({ row, text }) => {
    const embedding = known.get(text);
    return { row, text, cosine: embedding && picture?.embedding ? dot(picture.embedding, embedding) : null, probability: null };
  });
  const compared = scored.filter(({ cosine }) => cosine !== null);
  if (variant?.logitScale && compared.length) {
    const probabilities = softmax(compared.map(({ cosine }) => cosine), variant.logitScale);
    compared.forEach((one, index) => (one.probability = probabilities[index]));
  }
  const winner = compared.reduce((best, one) => (best && best.cosine >= one.cosine ? best : one), null);
  const fits = winner === null || judged(compared);
  showScores(scored, { by: chosen("scores"), best: fits ? winner?.row : null });
  $("no-match").hidden = fits;
  $("fitting-labels").hidden = !picture?.sample;
  $("scale").textContent = variant?.logitScale
    ? `Percentages compare these words, at the model's logit scale of ${Number(variant.logitScale.toPrecision(4))}. Cosine beside them.`
    : "Cosine similarity, from −1 to 1. This model does not tell its logit scale.";
  const cut = scored.flatMap(({ text }, index) => (tooLong.has(text) ? [`label ${index + 1}`] : []));
  $("cut").textContent = cut.length ? `The model reads only the beginning of ${cut.join(" and ")}.` : "";
  announce(winner, fits);
  showRequest();
}

/** Whether any of these labels fits. Those offered with a sample do; references are asked for only beyond them. */
function judged(compared) {
  if (!touched && picture.sample) return true;
  if (fit === null) {
    const model = variant;
    fit = () => Infinity; // until they are there
    fitOf(model).then((found) => {
      if (model !== variant || !found) return;
      fit = found;
      render();
    });
  }
  return compared.some(({ text }) => fit(picture.embedding, known.get(text)) >= GOOD[variant.kind]);
}

function announce(winner, fits) {
  clearTimeout(announcement);
  announcement = setTimeout(() => {
    const score = winner && (winner.probability === null ? signed(winner.cosine) : percent(winner.probability));
    $("best").textContent = winner ? `${fits ? "Best" : "No good match. Nearest"}: ${winner.text}, ${score}` : "";
  }, ANNOUNCE);
}

/** What is shown, as numbers: of labels with a score. */
function results() {
  const found = labels.texts.flatMap((label) => {
    const embedding = known.get(label);
    return embedding && picture?.embedding ? [{ label, similarity: dot(picture.embedding, embedding) }] : [];
  });
  const cosines = found.map(({ similarity }) => similarity);
  const probabilities = variant?.logitScale && found.length ? softmax(cosines, variant.logitScale) : [];
  return found.map((one, i) => ({ ...one, probability: probabilities[i] ?? null }));
}

function showRequest() {
  request.show({
    variant: variant?.name ?? "PE-Core-L14-336",
    labels: labels.texts,
    file: picture?.name ?? "picture.jpg",
    sample: picture?.sample?.file ?? null,
    address: picture?.address ?? null,
  });
}

const waiting = (place) => (seconds) =>
  showTrouble(place, `The server is busy. Trying again in ${Math.ceil(seconds)} s.`);

/** Repeating helps where the request was not at fault. */
const retry = (error, again) => (error.status === 0 || error.status === 401 || error.status >= 429 ? again : null);
