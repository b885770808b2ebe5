// The search's pictures, and results, as files for other programs.

import { csvFile, float32 } from "./csv.js";
import { $ } from "./dom.js";
import { download } from "./download.js";
import { npyFile } from "./npy.js";

/** In an order that is the same each time, so that row i of one file is row i of another. */
const ordered = (pictures) => [...pictures].sort((a, b) => (a.id < b.id ? -1 : 1));

const embeddingsNpy = (pictures) => npyFile(ordered(pictures).map(({ embedding }) => embedding));

const rowsCsv = (pictures) => csvFile(["row", "file"], ordered(pictures).map(({ name }, row) => [row, name]));

const embeddingsCsv = (pictures) =>
  csvFile(
    ["file", ...Array.from(pictures[0].embedding, (_, i) => `e${i}`)],
    ordered(pictures).map(({ name, embedding }) => [name, ...Array.from(embedding, float32)]),
  );

const rankingCsv = (ranked) =>
  csvFile(["rank", "file", "similarity"], ranked.map(({ picture, score }, i) => [i + 1, picture.name, score]));

/** @param {{label: string, probability: number | null, similarity: number | null}[]} results */
export const comparisonCsv = (results) =>
  csvFile(["label", "probability", "similarity"], results.map(({ label, probability, similarity }) => [label, probability, similarity]));

/**
 * The buttons of the search.
 * @param {() => {model: string, pictures: import("./store.js").Picture[], ranked: {picture: object, score: number}[] | null}} current
 * `ranked`: null while nothing is asked
 */
export function startExport(current) {
  const offers = {
    "export-npy": ["embeddings.npy", ({ pictures }) => embeddingsNpy(pictures)],
    "export-rows": ["rows.csv", ({ pictures }) => rowsCsv(pictures)],
    "export-csv": ["embeddings.csv", ({ pictures }) => embeddingsCsv(pictures)],
    "export-ranking": ["ranking.csv", ({ ranked }) => rankingCsv(ranked)],
  };
  $("export").addEventListener("click", () => {
    const open = $("export").getAttribute("aria-expanded") !== "true";
    $("export").setAttribute("aria-expanded", String(open));
    $("export-files").hidden = !open;
  });
  for (const [id, [name, make]] of Object.entries(offers)) {
    $(id).addEventListener("click", () => {
      const now = current();
      download(make(now), `${now.model}-${name}`);
    });
  }
}
