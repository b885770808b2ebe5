// Requests to the server this page came from, by URLs relative to the page, and their errors in words.

const TRIES = 5; // where the server says that another try makes sense; each time after a longer wait
const LONGEST_WAIT = 30; // seconds
const KEY = "api-key"; // in sessionStorage: this tab alone, until it is closed

/**
/**
 * What went wrong, as a sentence to show. `index`: the picture at fault, where several were sent. `said`: the server's
 * own words. `cause`: what the server says is wrong with the picture.
 */
export class ApiError extends Error {
  constructor(message, { status = 0, index = null, said = null, cause = null } = {}) {
    super(message, { cause });
    this.status = status;
    this.index = index;
    this.said = said;
  }
}

let askForKey = async () => null;

/** `ask(wrong)` resolves to a key, or null; `wrong`: the last one was refused. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export function hasKey() {
  return Boolean(sessionStorage.getItem(KEY));
}

export async function info(signal) {
  return (await send("info", { signal })).json();
}

/**
 * Embeddings of pictures, in order: [{rows: Float32Array[], timing}].
 * @param {(Blob | string)[]} files sent as they are; an address is read by the server
 * @param {{variant: string, signal?: AbortSignal, onWait?: (seconds: number) => void, tries?: number}} options
 */
export async function embedPictures(files, options) {
  const form = new FormData();
  for (const file of files) {
    if (typeof file === "string") form.append("image", file);
    else form.append("image", file, file.name || "picture");
  }
  const query = new URLSearchParams({ perception_encoder_version_id: options.variant });
  return embeddings(`perception_encoder/embed_image?${query}`, { body: form, ...options });
}

/** The same of one picture that the server fetches, if its rules for addresses allow that. */
export async function embedAddress(address, options) {
  const image = { type: "url", value: address };
  const body = JSON.stringify({ image, perception_encoder_version_id: options.variant });
  try {
    return await embeddings("perception_encoder/embed_image", { body, type: "application/json", ...options });
  } catch (error) {
    if (!error.cause) throw error;
    throw new ApiError(`The server does not take this address: ${error.cause}`, error);
  }
}

/** The same of texts; `truncated` holds the indices of those that are longer than the model reads. */
export async function embedTexts(texts, options) {
  const body = JSON.stringify({ text: texts, perception_encoder_version_id: options.variant });
  return embeddings("perception_encoder/embed_text", { body, type: "application/json", ...options });
}

async function embeddings(path, { body, type, ...options }) {
  const headers = { accept: "application/x-npy", ...(type && { "content-type": type }) };
  const { response, milliseconds } = await send(path, { method: "POST", body, headers, ...options }, true);
  const rows = readNpy(await response.arrayBuffer());
  const truncated = (response.headers.get("x-truncated") ?? "").split(",").filter(Boolean).map(Number);
  return { rows, truncated, timing: serverTiming(response.headers.get("server-timing")), milliseconds };
}

async function send(path, { onWait, tries = TRIES, ...request }, timed = false) {
  let wrongKey = false;
  for (let attempt = 1; ; attempt++) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...request.headers, ...(key && { authorization: `Bearer ${key}` }) };
    const start = performance.now();
    let response;
    try {
      response = await fetch(path, { ...request, headers, credentials: "same-origin" });
    } catch (error) {
      if (request.signal?.aborted) throw error;
      throw new ApiError("The server does not answer. Is it running, and is the network there?");
    }
    const milliseconds = performance.now() - start;
    if (response.ok) return timed ? { response, milliseconds } : response;
    if (response.status === 401) {
      wrongKey ||= Boolean(key);
      const given = await newKey(key, wrongKey);
      if (!given) throw new ApiError("This server asks for an API key.", { status: 401 });
      continue;
    }
    if ((response.status === 429 || response.status === 503) && attempt < tries) {
      const seconds = Math.min(retryAfter(response.headers.get("retry-after")) * attempt, LONGEST_WAIT);
      onWait?.(seconds);
      await pause(seconds, request.signal);
      continue;
    }
    throw await inWords(response);
  }
}

let asking = null; // one question, however many requests wait for its answer

async function newKey(used, wrong) {
  const current = sessionStorage.getItem(KEY);
  if (current && current !== used) return current; // another request has asked meanwhile
  asking ??= askForKey(wrong).finally(() => (asking = null));
  const given = await asking;
  if (given) sessionStorage.setItem(KEY, given);
  else sessionStorage.removeItem(KEY);
  return given;
}

async function inWords(response) {
  const { status } = response;
  let body = {};
  try {
    body = await response.json();
  } catch {
    // a proxy's page, say
  }
  const said = body.message ?? (typeof body.detail === "string" ? body.detail : body.detail?.[0]?.msg) ?? null;
  const index = body.index ?? null;
  const words = {
    413: "That is more than this server takes in one request.",
    429: "The server is busy. Try again in a moment.",
    502: "The model failed to answer.",
    503: "The server is there, but no model is ready. Try again in a moment.",
    504: "The answer took too long.",
  }[status];
  const cause = status === 400 ? said?.match(/^Could not load input image\. Cause: (.*)$/s)?.[1] : null;
  if (cause) return new ApiError("This file is not a picture that the server can read.", { status, index, said, cause });
  return new ApiError(words ?? said ?? `The server answered with an error (${status}).`, { status, index, said });
}

/** Seconds, from `Retry-After`'s seconds or date. */
export function retryAfter(header, now = Date.now()) {
  if (header === null || header.trim() === "") return 1;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - now) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), LONGEST_WAIT) : 1;
}

/** Milliseconds by stage, in order: {decode: 1.2, total: 8.1}. https://www.w3.org/TR/server-timing/ */
export function serverTiming(header) {
  const stages = {};
  for (const [, name, duration] of (header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)) stages[name] = Number(duration);
  return stages;
}

/** Rows of a little-endian float32 array [N, D], as numpy.lib.format has it. */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  const wide = view.getUint8(6) > 1;
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, length));
  const shape = header.match(/'shape': \((\d+), (\d+)\)/);
  if (!header.includes("'<f4'") || !shape) throw new ApiError("The server's answer is not an array of embeddings.");
  const [rows, columns] = [Number(shape[1]), Number(shape[2])];
  const values = new Float32Array(buffer.slice(start + length));
  // Each a copy: where a view is kept in the browser's database, the whole array is kept with it.
  return Array.from({ length: rows }, (_, row) => values.slice(row * columns, (row + 1) * columns));
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
