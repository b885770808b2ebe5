// The set of pictures on a plane: those that are alike lie close together.

import { plane, spread } from "./maths.js";

const MOST_SPREAD = 600; // pictures that are moved apart; beyond, the map shows density anyway
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class PictureMap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} here told the name of the picture that the keys have reached
   * @param {(picture: object) => void} onPick
   */
  constructor(canvas, here, onPick) {
    this.canvas = canvas;
    this.here = here;
    this.onPick = onPick;
    this.images = new Map(); // id -> HTMLImageElement
    this.clear();
    canvas.addEventListener("pointermove", (event) => this.#point(this.#at(event)));
    canvas.addEventListener("pointerleave", () => this.#point(null));
    canvas.addEventListener("click", (event) => this.#pick(this.#at(event)));
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    canvas.addEventListener("blur", () => this.#point(null));
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  clear() {
    this.pictures = [];
    this.placed = []; // [x, y] in [0, 1], as the pictures
    this.strength = null; // id -> how well it fits what was asked, in [0, 1]
    this.current = null; // index that is pointed at
    this.images.clear();
  }

  /** Draws the pictures; where something was asked, the best of `ranked` stand out. */
  show(pictures, ranked, urlOf) {
    if (pictures.length !== this.placed.length || pictures.some((picture, i) => picture !== this.pictures[i])) {
      this.pictures = [...pictures];
      this.#place();
    }
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
    this.canvas.setAttribute("aria-label", `Map of ${pictures.length} pictures`);
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
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const room = this.#room;
    this.placed = placed.length <= MOST_SPREAD ? spread(placed, [room / width, room / height]) : placed;
    this.current = null;
  }

  /** Of a picture and the space around it, in CSS pixels. */
  get #room() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return Math.sqrt((0.7 * width * height) / Math.max(this.placed.length || this.pictures.length, 1));
  }

  /** Of a picture, in CSS pixels. */
  get #side() {
    return Math.min(Math.max(this.#room * 0.8, 18), 96);
  }

  #centre(index) {
    const margin = this.#side * 0.7;
    const [x, y] = this.placed[index];
    return [margin + x * (this.canvas.clientWidth - 2 * margin), margin + y * (this.canvas.clientHeight - 2 * margin)];
  }

  #at(event) {
    let [nearest, least] = [null, this.#side * 0.75];
    for (let i = 0; i < this.placed.length; i++) {
      const [x, y] = this.#centre(i);
      const apart = Math.hypot(event.offsetX - x, event.offsetY - y);
      if (apart < least) [nearest, least] = [i, apart];
    }
    return nearest;
  }

  #point(index, byKey = false) {
    if (index === this.current) return;
    this.current = index;
    this.canvas.style.cursor = index === null ? "default" : "pointer";
    this.canvas.title = index === null ? "" : this.pictures[index].name;
    if (byKey) this.here.textContent = this.pictures[index].name;
    this.#soon();
  }

  #pick(index) {
    if (index !== null) this.onPick(this.pictures[index]);
  }

  #onKey(event) {
    const step = STEPS[event.key];
    if (step && this.placed.length) this.#point(this.#next(step), true);
    else if (event.key === "Enter" || event.key === " ") this.#pick(this.current);
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
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
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
      this.#drawPicture(context, i, this.#side * grown, this.strength ? 0.22 + 0.78 * fit(i) ** 2 : 1, style);
    }
    if (this.current !== null && this.current < this.placed.length) {
      this.#drawPicture(context, this.current, this.#side * 1.35, 1, style, true);
    }
  }

  #drawPicture(context, index, side, alpha, style, marked = false) {
    const [x, y] = this.#centre(index);
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
