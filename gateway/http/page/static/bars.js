// Scores as numbers and bars: the percentage, the cosine beside it, and a bar of either.

import { element } from "./dom.js";

const STEPS = [0.25, 0.5, 1]; // what the length of a bar to either side of zero can stand for

/**
 * Shows scores in rows of labels.
 * @param {{row: HTMLElement, cosine: number | null, probability: number | null}[]} scored
 * @param {{by: "percent" | "cosine", best: HTMLElement | null}} options what bars show; the row that stands out
 */
export function showScores(scored, { by, best }) {
  const cosines = scored.map(({ cosine }) => cosine).filter((cosine) => cosine !== null);
  const [low, high] = by === "percent" ? [0, 1] : range(cosines);
  for (const { row, cosine, probability } of scored) {
    const value = (by === "percent" ? probability : cosine) ?? 0;
    const [from, to] = [Math.min(value, 0), Math.max(value, 0)].map((end) => (end - low) / (high - low));
    row.classList.toggle("best", row === best);
    const track = row.querySelector(".track");
    track.classList.toggle("negative", value < 0);
    track.style.setProperty("--zero", -low / (high - low));
    track.style.setProperty("--from", from);
    track.style.setProperty("--length", to - from);
    const numbers = [];
    if (probability !== null) numbers.push(element("b", { class: "percent" }, percent(probability)));
    if (cosine !== null) {
      numbers.push(element("span", { class: "visually-hidden" }, probability === null ? "cosine " : ", cosine "));
      numbers.push(element("span", { class: "cosine" }, signed(cosine)));
    }
    row.querySelector(".value").replaceChildren(...numbers);
  }
}

/** The ends of the scale that holds these cosines, zero among them. */
function range(cosines) {
  const reach = (far) => STEPS.find((step) => step >= far) ?? 1;
  const lowest = Math.min(0, ...cosines);
  return [lowest < 0 ? -reach(-lowest) : 0, reach(Math.max(0, ...cosines))];
}

export const signed = (value) => value.toFixed(3).replace("-", "−");
export const percent = (value) => `${(value * 100).toFixed(1)} %`;
