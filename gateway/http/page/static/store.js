// The pictures of the search, kept in this browser: name, embedding, small copy. Originals are not kept.

const NAME = "perception-encoder";
const PICTURES = "pictures";

/**
 * @typedef {{id: string, variant: string, name: string, embedding: Float32Array, thumbnail: Blob | null}} Picture
 * `id` tells files apart: variant, path, size and time of change.
 */

let opened = null;

function open() {
  // Where two servers share an origin below different paths, each page has a database of its own.
  const name = NAME + new URL(".", document.baseURI).pathname;
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () =>
      request.result.createObjectStore(PICTURES, { keyPath: "id" }).createIndex("variant", "variant");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => ((opened = null), reject(request.error));
  });
  return opened;
}

async function transact(mode, work) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(PICTURES, mode);
    const request = work(transaction.objectStore(PICTURES));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** @returns {Promise<Picture[]>} */
export function load(variant) {
  return transact("readonly", (store) => store.index("variant").getAll(variant));
}

/** @param {Picture[]} pictures */
export function save(pictures) {
  return transact("readwrite", (store) => {
    for (const picture of pictures) store.put(picture);
  });
}

/** Removes the pictures of one model. */
export function clear(variant) {
  return transact("readwrite", (store) => {
    const keys = store.index("variant").getAllKeys(variant);
    keys.onsuccess = () => keys.result.forEach((key) => store.delete(key));
  });
}
