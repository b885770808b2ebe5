// Arrays as numpy.load reads them: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

const PREAMBLE = 10; // bytes: the magic string, the version, the length of the header
const ALIGNMENT = 64;

/**
 * A float32 array [N, D], little-endian as in every browser there is.
 * @param {Float32Array[]} rows at least one, all of one length
 */
export function npyFile(rows) {
  const shape = `(${rows.length}, ${rows[0].length})`;
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`;
  const length = Math.ceil((PREAMBLE + header.length + 1) / ALIGNMENT) * ALIGNMENT - PREAMBLE;
  const start = new Uint8Array([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, length & 0xff, length >> 8]);
  return new Blob([start, `${header.padEnd(length - 1)}\n`, ...rows], { type: "application/octet-stream" });
}
