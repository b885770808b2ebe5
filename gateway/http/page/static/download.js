// Files that the page makes itself.

const KEEP = 60_000; // milliseconds: the browser may still be reading

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEEP);
}
