// What pointers and the wheel do to a map: point, click, move by dragging, zoom by two fingers or the wheel.

const STILL = 6; // CSS pixels that a click may move
const WHEEL = 0.002; // how much of a zoom one pixel of the wheel is

export class Gestures {
  /**
   * @param {HTMLElement} target
   * @param {{onPoint: (at: number[] | null) => void, onClick: (at: number[]) => void,
   *   onZoom: (factor: number, at: number[]) => void, onMove: (step: number[]) => void}} options
   * places and steps: [x, y] in CSS pixels of the target
   */
  constructor(target, options) {
    Object.assign(this, options);
    this.target = target;
    this.down = new Map(); // pointerId -> where it is
    this.moved = 0; // since the first one came down
    target.addEventListener("pointerdown", (event) => this.#onDown(event));
    target.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, (event) => this.#onEnd(event));
    target.addEventListener("pointerleave", () => this.onPoint(null));
    target.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
  }

  #onDown(event) {
    this.moved = this.down.size === 0 ? 0 : Infinity; // two fingers click nothing
    this.down.set(event.pointerId, place(event));
    this.target.setPointerCapture(event.pointerId);
  }

  #onMove(event) {
    const now = place(event);
    const before = this.down.get(event.pointerId);
    if (!before) return this.onPoint(now);
    const step = [now[0] - before[0], now[1] - before[1]];
    const [other] = [...this.down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.moved += Math.hypot(...step);
    this.down.set(event.pointerId, now);
    if (other) {
      const factor = apart(now, other) / Math.max(apart(before, other), 1);
      this.onMove([step[0] / 2, step[1] / 2]);
      this.onZoom(factor, [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (this.moved > STILL) {
      this.onPoint(null);
      this.onMove(step);
    }
  }

  #onEnd(event) {
    const known = this.down.delete(event.pointerId);
    if (known && event.type === "pointerup" && this.down.size === 0 && this.moved <= STILL) this.onClick(place(event));
  }

  /** The wheel alone scrolls the page; a trackpad's two fingers come as the wheel with Ctrl. */
  #onWheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.onZoom(Math.exp(-event.deltaY * WHEEL), place(event));
  }
}

const place = (event) => [event.offsetX, event.offsetY];
const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
