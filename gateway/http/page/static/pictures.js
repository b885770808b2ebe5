// Files out of whatever a visitor drops, pastes or picks, and small copies of them.

// The same as pe-embed's. A test compares the two with the formats that the server reads.
const EXTENSIONS =
  /\.(avif|bmp|dib|gif|heic|heif|j2k|jfif|jp2|jpe|jpeg|jpf|jpg|jpx|pbm|pgm|png|pnm|ppm|tif|tiff|webp)$/i;
const THUMBNAIL = 320; // pixels of the longer side: sharp on dense screens, and large enough to look at

/** Whether a file of a folder is worth sending: by its type, or its name where the system knows no type. */
export function isPicture(file) {
  return file.type ? file.type.startsWith("image/") && file.type !== "image/svg+xml" : EXTENSIONS.test(file.name);
}

/** All files of a drop, folders included, each with its `path`. Must be called before the event is over. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...transfer.files];
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return files;
}

async function collect(entry, files) {
  if (entry.isFile) {
    files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at a time
    if (some.length === 0) return;
    for (const child of some) await collect(child, files);
  }
}

/** A small copy, or null where the browser cannot read the format though the server may. */
export async function thumbnail(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, THUMBNAIL / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
    bitmap.close();
    return await canvas.convertToBlob({ type: "image/webp", quality: 0.85 });
  } catch {
    return null;
  }
}

/** A file of the page's own, as if it had been picked. */
export async function fetchSample(sample) {
  const response = await fetch(`page/samples/${sample.file}`);
  const blob = await response.blob();
  return new File([blob], sample.file, { type: blob.type, lastModified: 0 });
}
