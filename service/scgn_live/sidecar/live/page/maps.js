/** Colour maps that a colour-blind eye reads too, and the tables from pixels to colours. */

// Anchors of cividis and inferno (both CC0), evenly spaced; linear between them.
const ANCHORS = {
  grey: ["000000", "ffffff"],
  cividis: [
    "00224e", "002e6a", "1a386f", "32436d", "434e6c", "535a6d", "61656f", "6f7073", "7d7c78",
    "8c8878", "9b9476", "aba072", "bcae6c", "cdbb63", "dec958", "f0d846", "fee838",
  ],
  inferno: [
    "000004", "0b0724", "210c4a", "3d0965", "57106e", "71196e", "8a226a", "a32c61", "bc3754",
    "d24644", "e45a31", "f1731d", "f98e09", "fcac11", "f9cb35", "f2ea69", "fcffa4",
  ],
};
export const MAP_NAMES = Object.keys(ANCHORS);
export const SATURATED = [255, 64, 255]; // on none of the maps, and lighter than most of them
const STEPS = 256;

function parts(hex) {
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** 256 colours of a map, each [red, green, blue]. */
export function colours(name) {
  const anchors = ANCHORS[name].map(parts);
  return Array.from({ length: STEPS }, (_, step) => {
    const place = (step / (STEPS - 1)) * (anchors.length - 1);
    const left = Math.min(Math.floor(place), anchors.length - 2);
    return anchors[left].map((value, part) =>
      Math.round(value + (anchors[left + 1][part] - value) * (place - left)),
    );
  });
}

/** [red, green, blue] as one little-endian RGBA word. */
export function word([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** From every 16-bit pixel value of a channel to its colour, for one pair of levels. */
export class Table {
  words = new Uint32Array(65536);
  #made = "";
  #map = "";
  #palette = [];

  /** step = round(255 * (count - low) / (high - low)), clipped; marked: show saturated pixels. */
  make(channel, { low, high }, map, marked) {
    const made = [channel.scale, channel.offset, low, high, map, marked].join();
    if (made === this.#made) return;
    this.#made = made;
    if (map !== this.#map) {
      this.#map = map;
      this.#palette = colours(map).map(word);
    }
    const gain = 255 / Math.max(high - low, 1e-12);
    for (let pixel = 0; pixel < 65536; pixel += 1) {
      const step = (channel.offset + channel.scale * pixel - low) * gain + 0.5;
      this.words[pixel] = this.#palette[step < 0 ? 0 : step >= 255 ? 255 : step | 0];
    }
    const limit = Math.round(channel.saturatedPixel);
    if (marked && limit >= 0 && limit <= 65535) this.words[limit] = word(SATURATED);
  }
}
