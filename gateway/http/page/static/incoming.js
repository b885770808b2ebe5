// What a visitor drops or pastes: files of pictures, or the addresses of some.

import { droppedFiles } from "./pictures.js";

/** Addresses, if a text is nothing else: one a line. `text/uri-list` has comments (RFC 2483). */
export function addressesIn(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  return lines.every((line) => /^https?:\/\/\S+$/i.test(line) && URL.canParse(line)) ? lines : [];
}

/** {files, addresses} of a drop. A picture dragged from a web page is a file where the browser says so. */
export async function dropped(transfer) {
  const text = transfer.getData("text/uri-list") || transfer.getData("text/plain"); // gone when the event is over
  const files = await droppedFiles(transfer);
  return { files, addresses: files.length ? [] : addressesIn(text) };
}

/** The same of a paste. */
export function pasted(transfer) {
  const files = [...transfer.files];
  return { files, addresses: files.length ? [] : addressesIn(transfer.getData("text/plain")) };
}

/** Whether one writes there, so that a paste of text belongs to it. */
export function isField(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}

/** The last part of an address's path, to call a picture by. */
export function nameOf(address) {
  const { pathname, hostname } = new URL(address);
  const last = pathname.split("/").filter(Boolean).pop();
  return last ? safelyDecoded(last) : hostname;
}

function safelyDecoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
