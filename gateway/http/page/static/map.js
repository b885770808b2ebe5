// The set of pictures on a plane: those that are alike lie close together.

import { plural } from "./dom.js";
import { Gestures } from "./gestures.js";
import { plane, spread } from "./maths.js";
import { Viewport } from "./viewport.js";

const MOST_SPREAD = 600; // pictures that are moved apart; beyond, the map shows density anyway
const ZOOM = 1.6; // one step of a button or key
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class PictureMap {
  /**
   * @param {HTMLElement} view holds the canvas, its buttons, and the name of the picture that is pointed at
   * @param {(picture: object) => void} onPick
   */
  constructor(view, onPick) {
    const canvas = view.querySelector("canvas");
    this.canvas = canvas;
    this.name = view.querySelector(".map-name");
    this.here = view.querySelector("[aria-live]");
    this.onPick = onPick;
    this.images = new Map(); // id -> HTMLImageElement
    this.viewport = new Viewport();
    this.clear();
    new Gestures(canvas, {
      onPoint: (at) => this.#point(at && this.#at(at)),
      onClick: (at) => this.#pick(this.#at(at)),
      onZoom: (factor, at) => this.#zoom(factor, at),
      onMove: (step) => this.#changed(() => this.viewport.move(step, this.#size)),
    });
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    canvas.addEventListener("blur", () => this.#point(null));
    view.querySelector("[data-zoom=in]").addEventListener("click", () => this.#zoom(ZOOM));
    view.querySelector("[data-zoom=out]").addEventListener("click", () => this.#zoom(1 / ZOOM));
    view.querySelector("[data-zoom=whole]").addEventListener("click", () => this.#changed(() => this.viewport.reset()));
    new ResizeObserver(() => this.#changed(() => this.viewport.move([0, 0], this.#size))).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  clear() {
    this.pictures = [];
    this.placed = []; // [x, y] in [0, 1], as the pictures
    this.strength = null; // id -> how well it fits what was asked, in [0, 1]
    this.outlined = new Set(); // ids of the results
    this.current = null; // index that is pointed at
    this.viewport.reset();
    this.images.clear();
  }

  /**
   * Draws the pictures; where something was asked, the best of `ranked` stand out.
   * @param {object[]} pictures
   * @param {{ranked: {picture: object, score: number}[] | null, outlined: Set<string>, urlOf: (picture: object) => string}} options
   */
  show(pictures, { ranked, outlined, urlOf }) {
    if (pictures.length !== this.placed.length || pictures.some((picture, i) => picture !== this.pictures[i])) {
      this.pictures = [...pictures];
      this.#place();
    }
    this.outlined = outlined;
    this.strength = ranked && new Map(ranked.map(({ picture, score }) => [picture.id, score]));
    if (this.strength) {
      const scores = [...this.strength.values()];
      const [lowest, highest] = [Math.min(...scores), Math.max(...scores)];
      for (const [id, score] of this.strength) this.strength.set(id, (score - lowest) / (highest - lowest || 1));
    }
    for (const picture of pictures) {
      const url = urlOf(picture);
      if (!url || this.images.has(picture.id)) continue;
      const image = new Image();
      image.onload = () => this.#soon();
      image.src = url;
      this.images.set(picture.id, image);
    }
    const results = outlined.size ? `, ${plural(outlined.size, "result")} outlined` : "";
    this.canvas.setAttribute("aria-label", `Map of ${plural(pictures.length, "picture")}${results}`);
    this.#draw();
  }

  #place() {
    const points = plane(this.pictures.map(({ embedding }) => embedding));
    const fitted = [0, 1].map((axis) => {
      const values = points.map((point) => point[axis]);
      const lowest = Math.min(...values);
      const range = Math.max(...values) - lowest;
      return (value) => (range > 1e-9 ? (value - lowest) / range : 0.5);
    });
    const placed = points.map((point) => point.map((value, axis) => fitted[axis](value)));
    const [width, height] = this.#size;
    const room = this.#room;
    this.placed = placed.length <= MOST_SPREAD ? spread(placed, [room / width, room / height]) : placed;
    this.current = null;
  }

  /** Of the canvas, in CSS pixels. */
  get #size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  /** Of a picture and the space around it, in CSS pixels. */
  get #room() {
    const [width, height] = this.#size;
    return Math.sqrt((0.7 * width * height) / Math.max(this.placed.length || this.pictures.length, 1));
  }

  /** Of a picture, in CSS pixels: it grows more slowly than the space around it, so that those that overlap part. */
  get #side() {
    return Math.min(Math.max(this.#room * 0.8, 18), 96) * Math.sqrt(this.viewport.scale);
  }

  /** Where a picture's centre is seen. */
  #centre(index) {
    const margin = Math.min(Math.max(this.#room * 0.8, 18), 96) * 0.7;
    return this.viewport.seen(this.placed[index].map((at, axis) => margin + at * (this.#size[axis] - 2 * margin)));
  }

  #at([x, y]) {
    let [nearest, least] = [null, this.#side * 0.75];
    for (let i = 0; i < this.placed.length; i++) {
      const [u, v] = this.#centre(i);
      const apart = Math.hypot(x - u, y - v);
      if (apart < least) [nearest, least] = [i, apart];
    }
    return nearest;
  }

  #point(index, byKey = false) {
    if (index === this.current) return;
    this.current = index;
    this.canvas.style.cursor = index === null ? "grab" : "pointer";
    if (byKey) {
      this.here.textContent = this.pictures[index].name;
      this.viewport.reveal(this.#centre(index), this.#side, this.#size);
    }
    this.#soon();
  }

  #pick(index) {
    if (index !== null) this.onPick(this.pictures[index]);
  }

  /** Zooms around a point: without one, around the picture that is pointed at, or the middle. */
  #zoom(factor, at = null) {
    at ??= this.current === null ? this.#size.map((side) => side / 2) : this.#centre(this.current);
    this.#changed(() => this.viewport.zoom(factor, at, this.#size));
  }

  #changed(change) {
    change();
    // At its whole size a finger scrolls the page; a section of it is moved.
    this.canvas.style.touchAction = this.viewport.scale > 1 ? "none" : "pan-y";
    this.canvas.dataset.scale = this.viewport.scale.toFixed(2);
    this.#soon();
  }

  #onKey(event) {
    const step = STEPS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step && this.placed.length) this.#point(this.#next(step), true);
    else if (event.key === "Enter" || event.key === " ") this.#pick(this.current);
    else if (event.key === "+" || event.key === "=") this.#zoom(ZOOM);
    else if (event.key === "-") this.#zoom(1 / ZOOM);
    else if (event.key === "0") this.#changed(() => this.viewport.reset());
    else return;
    event.preventDefault();
  }

  /** The nearest picture in a direction: what lies aside counts as farther away. */
  #next([dx, dy]) {
    if (this.current === null) return 0;
    const [x, y] = this.#centre(this.current);
    let [found, least] = [this.current, Infinity];
    for (let i = 0; i < this.placed.length; i++) {
      const [u, v] = this.#centre(i);
      const along = (u - x) * dx + (v - y) * dy;
      const aside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
      if (along > 0.5 && along + 2 * aside < least) [found, least] = [i, along + 2 * aside];
    }
    return found;
  }

  #soon() {
    this.frame ??= requestAnimationFrame(() => ((this.frame = null), this.#draw()));
  }

  #draw() {
    const { canvas } = this;
    const density = window.devicePixelRatio || 1;
    const [width, height] = this.#size;
    if (!width || !height) return;
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    const context = canvas.getContext("2d");
    context.scale(density, density);
    const style = getComputedStyle(canvas);
    // The best are drawn last, over the others.
    const fit = (i) => (this.strength ? (this.strength.get(this.pictures[i].id) ?? 0) : 1);
    const order = this.placed.map((_, i) => i).sort((a, b) => fit(a) - fit(b));
    for (const i of order) {
      const grown = this.strength ? 0.7 + 0.5 * fit(i) ** 2 : 1;
      const result = this.outlined.has(this.pictures[i].id);
      const alpha = !this.strength || result ? 1 : 0.22 + 0.5 * fit(i) ** 2;
      this.#drawPicture(context, i, this.#side * grown, alpha, style, result);
    }
    const pointed = this.current !== null && this.current < this.placed.length;
    if (pointed) this.#drawPicture(context, this.current, this.#side * 1.35, 1, style, true);
    this.#showName(pointed ? this.current : null);
  }

  /** Above the picture that is pointed at, inside the map. */
  #showName(index) {
    this.name.hidden = index === null;
    if (index === null) return;
    this.name.textContent = this.pictures[index].name;
    const [x, y] = this.#centre(index);
    const half = this.name.offsetWidth / 2 + 4;
    const above = y - this.#side * 0.7 - this.name.offsetHeight - 4;
    this.name.style.left = `${Math.min(Math.max(x, half), this.#size[0] - half)}px`;
    this.name.style.top = `${above > 4 ? above : y + this.#side * 0.7 + 4}px`;
  }

  #drawPicture(context, index, side, alpha, style, marked = false) {
    const [x, y] = this.#centre(index);
    if (x < -side || y < -side || x > this.#size[0] + side || y > this.#size[1] + side) return; // out of sight
    const image = this.images.get(this.pictures[index].id);
    const loaded = image?.complete && image.naturalWidth;
    const scale = loaded ? side / Math.max(image.naturalWidth, image.naturalHeight) : 1;
    const [width, height] = loaded ? [image.naturalWidth * scale, image.naturalHeight * scale] : [side * 0.6, side * 0.6];
    context.save();
    context.globalAlpha = alpha;
    context.beginPath();
    context.roundRect(x - width / 2, y - height / 2, width, height, Math.min(6, side / 8));
    context.fillStyle = style.getPropertyValue("--line");
    context.fill();
    context.save();
    context.clip();
    if (loaded) context.drawImage(image, x - width / 2, y - height / 2, width, height);
    context.restore();
    context.lineWidth = marked ? 3 : 1;
    context.strokeStyle = style.getPropertyValue(marked ? "--accent" : "--line");
    context.stroke();
    context.restore();
  }
}
