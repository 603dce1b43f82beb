/** Arrays as .npy files, version 1.0. */

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0];
const ALIGNED = 64;

/** A Blob of the file; `bytes` are the pixels in C order as `dtype` (a numpy code) says. */
export function npy(dtype, [rows, columns], bytes) {
  const words = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const before = MAGIC.length + 2;
  const padding = (ALIGNED - ((before + words.length + 1) % ALIGNED)) % ALIGNED;
  const text = `${words}${" ".repeat(padding)}\n`;
  const head = new Uint8Array(before + text.length);
  head.set(MAGIC);
  new DataView(head.buffer).setUint16(MAGIC.length, text.length, true);
  head.set(new TextEncoder().encode(text), before);
  return new Blob([head, bytes], { type: "application/octet-stream" });
}
