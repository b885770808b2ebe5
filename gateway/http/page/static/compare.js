// Compare: one picture, some labels, and how well each fits.

import { embedPictures, embedTexts, hasKey } from "./api.js";
import { $, chosen, element, onChosen, picker, showTrouble } from "./dom.js";
import { download } from "./download.js";
import { comparisonCsv } from "./exports.js";
import { dot, softmax } from "./maths.js";
import { droppedFiles, fetchSample, isPicture } from "./pictures.js";
import { SAMPLES } from "./samples.js";
import { curl, python } from "./snippets.js";

const DEBOUNCE = 150; // milliseconds after the last key
const SCALES = [0.25, 0.5, 1]; // what the whole width of a bar can stand for
const ANNOUNCE = 1000; // milliseconds of quiet before a screen reader is told
const SHOWN_SAMPLES = 8;
const HINT = "Drop a picture here, or paste one.";
const FIRST_LABELS = {
  drawn: ["a red circle", "a blue square", "a green triangle", "a yellow star"],
  photograph: ["a cat", "an astronaut", "a cup of coffee", "a rocket"],
};

let variant = null; // {name, logitScale, kind}
let picture = null; // {file, sample, embedding}
let known = new Map(); // text -> embedding, of this variant
let tooLong = new Set(); // texts that the model does not read to their end
let touched = false; // the visitor has written labels
let pictureWork = new AbortController();
let labelsWork = new AbortController();
let debounce, announcement;

export function start() {
  picker("choose", "choose-file", ([file]) => setPicture(file));
  picker("shoot", "shoot-file", ([file]) => setPicture(file));
  $("add-label").addEventListener("click", () => addRow("", null).focus());
  $("copy").addEventListener("click", copy);
  $("compare-csv").addEventListener("click", () => download(comparisonCsv(results()), "comparison.csv"));
  onChosen("scores", render);
  onChosen("language", renderSnippet);
  renderSnippet();
}

/** A model was chosen: what is on the page is asked anew. */
export function use(model) {
  const changed = variant !== null;
  variant = model;
  known = new Map();
  tooLong = new Set();
  const softmaxChoice = document.querySelector('input[name="scores"][value="softmax"]');
  softmaxChoice.disabled = !variant.logitScale;
  if (!variant.logitScale && softmaxChoice.checked) document.querySelector('input[name="scores"]').click();
  showSamples();
  if (!touched) setLabels(FIRST_LABELS[variant.kind]);
  if (picture && (changed || !picture.sample)) setPicture(picture.file, picture.sample);
  else useSample(SAMPLES.find(({ kind }) => kind === variant.kind));
}

/** What was dropped on the page while this part of it is shown. */
export async function drop(transfer) {
  const files = (await droppedFiles(transfer)).filter(isPicture);
  if (files.length) setPicture(files[0]);
  else showTrouble("picture-trouble", "That was no picture file. A picture from a web page has to be saved first.");
}

export function paste(transfer) {
  const file = [...transfer.files].find(isPicture);
  if (file) setPicture(file);
  return Boolean(file);
}

// -- the picture

function showSamples() {
  const shown = SAMPLES.filter(({ kind }) => kind === variant.kind).slice(0, SHOWN_SAMPLES);
  $("samples").replaceChildren(
    ...shown.map((sample) => {
      const image = element("img", { src: `page/samples/${sample.file}`, alt: sample.alt, width: 64, height: 64 });
      const button = element("button", { "data-sample": sample.file, "aria-pressed": "false" }, image);
      button.addEventListener("click", () => useSample(sample));
      return element("li", {}, button);
    }),
  );
}

async function useSample(sample) {
  try {
    await setPicture(await fetchSample(sample), sample);
  } catch {
    showTrouble("picture-trouble", "The server does not answer.", () => useSample(sample));
  }
}

async function setPicture(file, sample = null) {
  pictureWork.abort();
  pictureWork = new AbortController();
  const { signal } = pictureWork;
  picture = { file, sample, embedding: null };
  showTrouble("picture-trouble", null);
  showPicture(file, sample);
  render();
  renderSnippet();
  $("well").setAttribute("aria-busy", "true");
  try {
    const answer = await embedPictures([file], { variant: variant.name, signal, onWait: waiting("picture-trouble") });
    if (signal.aborted) return;
    picture.embedding = answer.rows[0];
    showTrouble("picture-trouble", null);
    renderTiming("Picture", answer);
    render();
    renderSnippet(); // the key may have been asked for
    await embedLabels();
  } catch (error) {
    if (signal.aborted) return;
    showTrouble("picture-trouble", error.message, retry(error, () => setPicture(file, sample)));
    $("well-hint").textContent = HINT; // and no hope that the server might read what the browser cannot
  } finally {
    if (!signal.aborted) $("well").removeAttribute("aria-busy");
  }
}

function showPicture(file, sample) {
  const image = $("picture");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  image.alt = sample?.alt ?? file.name;
  image.hidden = false;
  image.onerror = () => {
    image.hidden = true;
    $("well-hint").textContent = "This browser cannot show the file; the server may read it all the same.";
  };
  $("well-hint").textContent = HINT;
  $("picture-name").textContent = sample ? sample.alt : `${file.name}, ${size(file.size)}`;
  for (const button of $("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.sample === sample?.file));
  }
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// -- the labels

const rows = () => [...$("labels").children];
const textOf = (row) => row.querySelector("input").value.trim();
const texts = () => rows().map(textOf).filter(Boolean);

function setLabels(labels) {
  $("labels").replaceChildren();
  for (const label of labels) addRow(label, null);
}

/** A row for a label after another row, or at the end; its input. */
function addRow(text, after) {
  const input = element("input", { type: "text", value: text, placeholder: "a label", maxlength: 1000, spellcheck: "false", autocapitalize: "none" });
  const remove = element("button", { class: "remove", title: "Remove" }, element("span", { "aria-hidden": "true" }, "×"));
  const row = element("li", {}, element("span", { class: "fill" }), input, element("span", { class: "value" }), remove);
  if (after) after.after(row);
  else $("labels").append(row);
  input.addEventListener("input", changed);
  input.addEventListener("keydown", (event) => onKey(event, row));
  input.addEventListener("paste", (event) => onPaste(event, row));
  remove.addEventListener("click", () => removeRow(row));
  number();
  return input;
}

function removeRow(row) {
  const next = row.previousElementSibling ?? row.nextElementSibling;
  row.remove();
  (next?.querySelector("input") ?? addRow("", null)).focus();
  number();
  changed();
}

/** Screen readers are told which label it is, and its score with it. */
function number() {
  rows().forEach((row, index) => {
    row.querySelector("input").setAttribute("aria-label", `Label ${index + 1}`);
    row.querySelector("input").setAttribute("aria-describedby", `score-${index}`);
    row.querySelector(".value").id = `score-${index}`;
    row.querySelector(".remove").setAttribute("aria-label", `Remove label ${index + 1}`);
  });
}

function onKey(event, row) {
  const input = event.target;
  const aim = { ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling }[event.key];
  if (event.isComposing) return;
  if (event.key === "Enter") addRow("", row).focus();
  else if (event.key === "Backspace" && input.value === "" && rows().length > 1) removeRow(row);
  else if (aim) aim.querySelector("input").focus();
  else return;
  event.preventDefault();
}

/** Several lines at once become several labels. */
function onPaste(event, row) {
  const lines = event.clipboardData.getData("text").split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  if (lines.length < 2) return;
  event.preventDefault();
  let last = row;
  if (!textOf(row)) row.querySelector("input").value = lines.shift();
  for (const line of lines) last = addRow(line, last).parentElement;
  last.querySelector("input").focus();
  changed();
}

function changed() {
  touched = true;
  render();
  renderSnippet();
  clearTimeout(debounce);
  debounce = setTimeout(embedLabels, DEBOUNCE);
}

async function embedLabels() {
  labelsWork.abort(); // an older question's answer would come too late
  labelsWork = new AbortController();
  const { signal } = labelsWork;
  const unknown = [...new Set(texts())].filter((text) => !known.has(text));
  if (unknown.length === 0 || !variant) return;
  try {
    const answer = await embedTexts(unknown, { variant: variant.name, signal, onWait: waiting("labels-trouble") });
    if (signal.aborted) return;
    unknown.forEach((text, index) => known.set(text, answer.rows[index]));
    for (const index of answer.truncated) tooLong.add(unknown[index]);
    showTrouble("labels-trouble", null);
    renderTiming(unknown.length === 1 ? "1 label" : `${unknown.length} labels`, answer);
    render();
  } catch (error) {
    if (!signal.aborted) showTrouble("labels-trouble", error.message, retry(error, embedLabels));
  }
}

// -- what both come to

function render() {
  const scored = rows().map((row) => {
    const embedding = known.get(textOf(row));
    return { row, cosine: embedding && picture?.embedding ? dot(picture.embedding, embedding) : null };
  });
  const cosines = scored.filter(({ cosine }) => cosine !== null).map(({ cosine }) => cosine);
  const best = Math.max(...cosines);
  const asSoftmax = chosen("scores") === "softmax";
  const probabilities = asSoftmax && cosines.length ? softmax(cosines, variant.logitScale) : [];
  const whole = asSoftmax ? 1 : (SCALES.find((scale) => scale >= best) ?? 1);
  let position = 0;
  for (const { row, cosine } of scored) {
    const probability = cosine === null ? null : probabilities[position++];
    const value = asSoftmax ? probability : cosine;
    row.classList.toggle("best", cosine !== null && cosine === best);
    row.querySelector(".fill").style.setProperty("--value", cosine === null ? 0 : Math.min(Math.max(value / whole, 0), 1));
    row.querySelector(".value").textContent = cosine === null ? "" : asSoftmax ? percent(value) : signed(value);
  }
  $("scale").textContent = asSoftmax
    ? `Softmax at the model's logit scale, ${Number(variant.logitScale.toPrecision(4))}`
    : `Cosine similarity, bars from 0 to ${whole}`;
  const cut = scored.flatMap(({ row }, index) => (tooLong.has(textOf(row)) ? [`label ${index + 1}`] : []));
  $("cut").textContent = cut.length ? `The model reads only the beginning of ${cut.join(" and ")}.` : "";
  clearTimeout(announcement);
  const winner = scored.find(({ cosine }) => cosine !== null && cosine === best);
  announcement = setTimeout(() => {
    $("best").textContent = winner ? `Best: ${textOf(winner.row)}, ${winner.row.querySelector(".value").textContent}` : "";
  }, ANNOUNCE);
}

/** What is shown, as numbers: of labels with a score. */
function results() {
  const found = texts().flatMap((label) => {
    const embedding = known.get(label);
    return embedding && picture?.embedding ? [{ label, similarity: dot(picture.embedding, embedding) }] : [];
  });
  const cosines = found.map(({ similarity }) => similarity);
  const probabilities = variant?.logitScale && found.length ? softmax(cosines, variant.logitScale) : [];
  return found.map((one, i) => ({ ...one, probability: probabilities[i] ?? null }));
}

const signed = (value) => value.toFixed(3).replace("-", "−");
const percent = (value) => `${(value * 100).toFixed(1)} %`;

/** One line per kind of request, the last of each: where its milliseconds went. */
function renderTiming(what, { timing, milliseconds }) {
  const kind = what === "Picture" ? "picture" : "labels";
  const { total = milliseconds, ...stages } = timing;
  const inStages = Object.values(stages).reduce((a, b) => a + b, 0);
  const parts = {
    ...stages,
    "rest of the server": Math.max(total - inStages, 0),
    "network and browser": Math.max(milliseconds - total, 0),
  };
  const bar = element("div", { class: "stages", "aria-hidden": "true" });
  const legend = element("ul", {});
  for (const [name, spent] of Object.entries(parts)) {
    const mark = `stage-${name.split(" ")[0]}`;
    const part = element("span", { class: mark });
    part.style.flexGrow = String(spent);
    bar.append(part);
    legend.append(element("li", { class: mark }, `${name} `, element("b", {}, `${spent.toFixed(1)} ms`)));
  }
  const heading = element("p", {}, `${what} `, element("b", {}, `${milliseconds.toFixed(1)} ms`));
  const line = element("div", { "data-kind": kind }, heading, bar, legend);
  const old = $("timing").querySelector(`[data-kind="${kind}"]`);
  if (old) old.replaceWith(line);
  else if (kind === "picture") $("timing").prepend(line);
  else $("timing").append(line);
  $("timing").querySelector(".fine")?.remove();
}

function renderSnippet() {
  const url = new URL(".", document.baseURI).href;
  const written = { curl, python }[chosen("language")]({
    url,
    variant: variant?.name ?? "PE-Core-L14-336",
    labels: texts(),
    file: picture?.file.name ?? "picture.jpg",
    sample: picture?.sample ? `${url}page/samples/${picture.sample.file}` : null,
    key: hasKey(),
  });
  $("snippet").firstElementChild.textContent = written;
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

const waiting = (place) => (seconds) =>
  showTrouble(place, `The server is busy. Trying again in ${Math.ceil(seconds)} s.`);

/** Repeating helps where the request was not at fault. */
const retry = (error, again) => (error.status === 0 || error.status === 401 || error.status >= 429 ? again : null);
