// Whether words fit a picture at all. A cosine alone does not tell: some words are close to every picture, some pictures
// to all words, and each model has a level of its own. So a pair is compared with pairs of reference words and pictures:
// what is left of its cosine after the averages of both sides, in units of what is left of unrelated pairs.
//
// Some references fit each other, and do so the more, the better the model is. They would widen a standard deviation. So
// the unit is taken from the median, which they hardly move.

import { embedPictures, embedTexts } from "./api.js";
import { fetchSample } from "./pictures.js";
import { SAMPLES } from "./samples.js";

// What a fitting pair has at least, by the kind of the model's pictures.
export const GOOD = {
  // Of the demo's 36 samples with its 81 pairs of words: 4.1 to 6.0 where colour and shape are right, at most 3.9 where one is.
  drawn: 4,
  // Not measured. If unrelated pairs are normally distributed, one in 700 has more.
  photograph: 3,
};
const NORMAL = 1.4826; // standard deviation of a normal distribution, in medians of its absolute values
const PICTURES = 8; // samples of the page; on a CPU, a large model takes a second for each
const WORDS = [
  "a person", "a dog", "a bird", "a fish", "an insect", "a tree", "a flower", "a mountain", "the sea", "a street at night",
  "a house", "a car", "a train", "a boat", "a meal", "a fruit", "a book", "a page of text", "a diagram", "a tool",
  "a chair", "a shoe", "a telephone", "a football match", "a wedding", "snow", "a map", "a guitar",
];

const known = new Map(); // model's name -> promise of its references

/** `await fitOf(model)` is `(picture, text) => units`, of embeddings; null where the server gives no references. */
export async function fitOf(model) {
  if (!known.has(model.name)) known.set(model.name, references(model));
  try {
    return await known.get(model.name);
  } catch {
    known.delete(model.name); // another time
    return null;
  }
}

async function references({ name, kind }) {
  const samples = SAMPLES.filter((sample) => sample.kind === kind);
  const words = samples.map(({ alt }) => alt.toLowerCase()).concat(kind === "drawn" ? [] : WORDS);
  const files = await Promise.all(samples.slice(0, PICTURES).map(fetchSample));
  const [texts, pictures] = await Promise.all([
    embedTexts(words, { variant: name }),
    embedPictures(files, { variant: name }),
  ]);
  return fit(pictures.rows, texts.rows);
}

/** The same of given references. */
export function fit(pictures, texts) {
  const [ofPictures, ofTexts] = [mean(pictures), mean(texts)];
  const left = (picture, text) => {
    let sum = 0;
    for (let i = 0; i < picture.length; i++) sum += (picture[i] - ofPictures[i]) * (text[i] - ofTexts[i]);
    return sum;
  };
  const all = pictures.flatMap((picture) => texts.map((text) => Math.abs(left(picture, text))));
  const unit = NORMAL * all.sort((a, b) => a - b)[all.length >> 1];
  return (picture, text) => left(picture, text) / unit;
}

function mean(rows) {
  const sum = new Float64Array(rows[0].length);
  for (const row of rows) for (let i = 0; i < sum.length; i++) sum[i] += row[i] / rows.length;
  return sum;
}
