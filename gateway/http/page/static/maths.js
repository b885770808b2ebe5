// What the page computes itself: similarities, and the plane on which a set of embeddings is drawn.

/** Of unit vectors, their cosine similarity. */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Probabilities of cosines, at the model's own scale (CLIP's, https://arxiv.org/abs/2103.00020). */
export function softmax(cosines, scale) {
  const highest = Math.max(...cosines);
  const powers = cosines.map((cosine) => Math.exp(scale * (cosine - highest)));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

const FITTED = 1000; // rows that the directions are found from; the others are only projected
const ROUNDS = 60;

/** Coordinates [[x, y], ...] of vectors along their two principal components, by power iteration. */
export function plane(rows) {
  if (rows.length === 0) return [];
  const size = rows[0].length;
  const step = Math.max(1, Math.floor(rows.length / FITTED));
  const fitted = rows.filter((_, i) => i % step === 0);
  const mean = new Float64Array(size);
  for (const row of fitted) for (let i = 0; i < size; i++) mean[i] += row[i] / fitted.length;
  const centred = fitted.map((row) => Float64Array.from(row, (value, i) => value - mean[i]));
  const first = direction(centred, null);
  const second = direction(centred, first);
  const offsets = [dot(mean, first), dot(mean, second)];
  return rows.map((row) => [dot(row, first) - offsets[0], dot(row, second) - offsets[1]]);
}

/** The unit vector along which the rows differ most, orthogonal to another. */
function direction(rows, other) {
  const size = rows[0].length;
  // Any start that is not orthogonal to the answer will do; a fixed one draws the same set alike each time.
  let vector = Float64Array.from({ length: size }, (_, i) => Math.sin(1 + i * 12.9898));
  for (let round = 0; round < ROUNDS; round++) {
    const next = new Float64Array(size);
    for (const row of rows) {
      const along = dot(row, vector);
      for (let i = 0; i < size; i++) next[i] += along * row[i];
    }
    if (other) {
      const shared = dot(next, other);
      for (let i = 0; i < size; i++) next[i] -= shared * other[i];
    }
    const length = Math.sqrt(dot(next, next));
    if (length < 1e-12) break; // all rows are alike: any direction is as good
    for (let i = 0; i < size; i++) next[i] /= length;
    const turned = 1 - Math.abs(dot(next, vector));
    vector = next;
    if (round > 0 && turned < 1e-10) break;
  }
  if (other) {
    const shared = dot(vector, other); // of the start, where the loop ended before its first turn
    for (let i = 0; i < size; i++) vector[i] -= shared * other[i];
  }
  return vector;
}

/** Pushes points of [0, 1] x [0, 1] apart until most are so far from each other (x, y), or some rounds are over. */
export function spread(points, [width, height], rounds = 80) {
  const placed = points.map(([x, y]) => [x / width, y / height]); // in units of that distance
  const most = [1 / width, 1 / height];
  for (let round = 0; round < rounds; round++) {
    let moved = false;
    for (let a = 0; a < placed.length; a++) {
      for (let b = a + 1; b < placed.length; b++) {
        let dx = placed[b][0] - placed[a][0];
        let dy = placed[b][1] - placed[a][1];
        let apart = Math.hypot(dx, dy);
        if (apart >= 1) continue;
        // One on top of the other: any way apart will do.
        if (apart < 1e-9) [dx, dy, apart] = [Math.cos(a + b) * 1e-9, Math.sin(a + b) * 1e-9, 1e-9];
        const push = (1 - apart) / 2 / apart;
        placed[a][0] -= dx * push;
        placed[a][1] -= dy * push;
        placed[b][0] += dx * push;
        placed[b][1] += dy * push;
        moved = true;
      }
    }
    for (const point of placed) point.forEach((value, i) => (point[i] = Math.min(Math.max(value, 0), most[i])));
    if (!moved) break;
  }
  return placed.map(([x, y]) => [x * width, y * height]);
}
