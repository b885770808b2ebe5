// Many pictures in few requests, each within the server's limits.

const BATCH = 16; // pictures in one request
const BATCH_BYTES = 8e6; // whichever is reached first
const OVERHEAD = 4096; // bytes of a form around one picture
const AT_ONCE = 2; // while one request is computed, the next is on its way

/**
 * Sends every item once, or refuses it.
 *
 * One picture that cannot be read fails a whole request, so it is left out and the others are sent again. A request that
 * is too large is halved. Any other error ends the run.
 * @template T
 * @param {T[]} items
 * @param {object} run
 * @param {{max_items: number, max_body_bytes: number}} run.limits of one request, from /info
 * @param {(item: T) => number} run.sizeOf bytes
 * @param {(batch: T[]) => Promise<void>} run.send
 * @param {(item: T, error: Error | null) => void} run.refuse null: the item alone is larger than a request may be
 * @param {AbortController} run.controller ends the run; an error of the run aborts it, too
 */
export async function sendInBatches(items, { limits, sizeOf, send, refuse, controller }) {
  const { signal } = controller;

  async function attempt(batch) {
    if (batch.length === 0 || signal.aborted) return;
    try {
      await send(batch);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 400 && (error.index !== null || batch.length === 1)) {
        const at = error.index ?? 0;
        refuse(batch[at], error);
        await attempt(batch.filter((_, i) => i !== at));
      } else if (error.status === 413 && batch.length > 1) {
        const half = Math.ceil(batch.length / 2);
        await attempt(batch.slice(0, half));
        await attempt(batch.slice(half));
      } else if (error.status === 413) {
        refuse(batch[0], null);
      } else {
        throw error;
      }
    }
  }

  const batches = split(items, limits, sizeOf, refuse);
  const workers = Array.from({ length: AT_ONCE }, async () => {
    for (const batch of batches) await attempt(batch); // both draw from the one generator
  });
  try {
    await Promise.all(workers);
  } catch (error) {
    controller.abort(); // the other worker, too
    throw error;
  }
}

function* split(items, limits, sizeOf, refuse) {
  const most = Math.min(BATCH, limits.max_items);
  const mostBytes = Math.min(BATCH_BYTES, limits.max_body_bytes / 2);
  let batch = [];
  let bytes = 0;
  for (const item of items) {
    const size = sizeOf(item);
    if (size > limits.max_body_bytes - OVERHEAD) {
      refuse(item, null);
      continue;
    }
    if (batch.length === most || (batch.length > 0 && bytes + size > mostBytes)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(item);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}
