// What of a plane is seen: how large, and which section of it.

const MOST = 12; // times

export class Viewport {
  constructor() {
    this.reset();
  }

  reset() {
    this.scale = 1;
    this.offset = [0, 0]; // CSS pixels from where the plane's origin is at scale 1
  }

  /** Where a point of the plane (CSS pixels at scale 1) is seen. */
  seen([x, y]) {
    return [x * this.scale + this.offset[0], y * this.scale + this.offset[1]];
  }

  /** Zooms by a factor, and keeps a seen point in its place. `size`: of the plane and of what is seen of it. */
  zoom(factor, [x, y], size) {
    const scale = Math.min(Math.max(this.scale * factor, 1), MOST);
    const grown = scale / this.scale;
    this.offset = [x - (x - this.offset[0]) * grown, y - (y - this.offset[1]) * grown];
    this.scale = scale;
    this.#clamp(size);
  }

  move([dx, dy], size) {
    this.offset = [this.offset[0] + dx, this.offset[1] + dy];
    this.#clamp(size);
  }

  /** Moves as little as brings a seen point inside, by a margin. */
  reveal(point, margin, size) {
    const inside = (at, axis) => Math.min(Math.max(at, margin), size[axis] - margin);
    this.move(point.map((at, axis) => inside(at, axis) - at), size);
  }

  /** The plane's edges stay outside. */
  #clamp(size) {
    this.offset = this.offset.map((at, axis) => Math.min(0, Math.max(at, size[axis] * (1 - this.scale))));
  }
}
