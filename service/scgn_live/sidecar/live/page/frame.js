/** The service's binary messages as frames. */

import { msOf } from "./clock.js";

const INTEGER_MAX = {
  "|u1": 255, "<u2": 65535, ">u2": 65535, "<i2": 32767, "<u4": 4294967295, "<i4": 2147483647,
};

/** Header of a message and where its pixels start. */
export function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, start: 4 + length };
}

/** A message that came in several parts, put together again. */
export class Parts {
  constructor(header, buffer, start) {
    this.header = header;
    this.start = start;
    this.#bytes = new Uint8Array(start + header.bytes);
    this.add(buffer);
  }

  #bytes;
  #filled = 0;

  /** One more part; whether it was the last. */
  add(buffer) {
    this.#bytes.set(new Uint8Array(buffer), this.#filled);
    this.#filled += buffer.byteLength;
    return this.#filled === this.#bytes.length;
  }

  get buffer() {
    return this.#bytes.buffer;
  }
}

/** One channel of a frame, in 16 bits: count = offset + scale * pixel. */
export class Channel {
  constructor(described, buffer, start) {
    Object.assign(this, described);
    [this.rows, this.columns] = described.shape;
    this.pixels = new Uint16Array(buffer, start, this.rows * this.columns);
  }

  /** Whether every pixel holds its count exactly: whole numbers that fit. */
  get whole() {
    return this.dtype in INTEGER_MAX && this.scale === 1;
  }

  /** The pixel value at which the detector has no more to say, NaN when there is none. */
  get saturatedPixel() {
    return this.saturated === null ? NaN : (INTEGER_MAX[this.dtype] - this.offset) / this.scale;
  }

  countAt(row, column) {
    return this.offset + this.scale * this.pixels[row * this.columns + column];
  }

  /** The pixel value of a count; not rounded, may lie outside 0..65535. */
  pixelOf(count) {
    return (count - this.offset) / this.scale;
  }
}

/** One published frame. */
export class Frame {
  constructor(header, buffer, start) {
    this.header = header;
    this.channels = new Map();
    for (const described of header.channels) {
      const channel = new Channel(described, buffer, start);
      this.channels.set(channel.name, channel);
      start += channel.pixels.byteLength;
    }
    this.receivedMs = msOf(header.t_received_ns);
    this.acquiredMs = header.t_acquired_ns === null ? NaN : msOf(header.t_acquired_ns);
  }

  get rows() {
    return this.channels.values().next().value.rows;
  }

  get columns() {
    return this.channels.values().next().value.columns;
  }
}
