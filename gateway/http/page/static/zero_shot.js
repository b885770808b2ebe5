// Zero-shot classification of embeddings, by the arithmetic of POST /perception_encoder/classify (gateway/zero_shot.py).

import { dot, softmax } from "./maths.js";

export const PLACE = "{}"; // what the class replaces in a template

/** Classes as one writes them: one a line or, on a single line, separated by commas. Each is named once. */
export function readClasses(text) {
  const separator = text.trim().includes("\n") ? "\n" : ",";
  return [...new Set(text.split(separator).map((name) => name.trim()).filter(Boolean))];
}

/** The prompt of a class. Without a template it is the class itself. */
export const promptOf = (name, template) => (template ? template.replaceAll(PLACE, () => name) : name);

/**
 * Classes in falling order of similarity.
 * @param {Float32Array} image of unit length, as are the embeddings of the classes
 * @param {{name: string, embedding: Float32Array}[]} classes
 * @param {number | null} logitScale without it there are no probabilities
 * @returns {{name: string, probability: number | null, similarity: number}[]}
 */
export function classify(image, classes, logitScale) {
  const similarities = classes.map(({ embedding }) => dot(image, embedding));
  const probabilities = logitScale ? softmax(similarities, logitScale) : null;
  return classes
    .map(({ name }, i) => ({ name, probability: probabilities?.[i] ?? null, similarity: similarities[i] }))
    .sort((a, b) => b.similarity - a.similarity);
}
