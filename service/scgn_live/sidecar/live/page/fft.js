/** The power spectra of the painted frame, made in a worker, at most five a second. */

import { decimal } from "./formats.js";
import { colours, word } from "./maps.js";
import { middle, sizeFor } from "./spectrum.js";

const EVERY_MS = 200;
const SHARE = 0.5; // of a core, at most: it may be the service's

export class SpectrumPanel {
  constructor(root) {
    this.root = root;
    this.made = 0;
    this.#words = root.querySelector(".readout");
    this.#title = this.#words.textContent;
  }

  #words;
  #title;
  #worker = null;
  #askedMs = 0;
  #dueMs = 0; // not before; Infinity while the worker is at it
  #canvases = new Map();
  #map = "grey";
  #pixelNm = null;

  get open() {
    return !this.root.hidden;
  }

  toggle() {
    this.root.hidden = this.open;
    if (this.open) {
      this.#worker = new Worker("/live/fft-worker.js", { type: "module" });
      this.#worker.onmessage = ({ data }) => this.#show(data);
      this.#dueMs = 0;
    } else {
      this.#worker.terminate();
    }
  }

  /** A frame was painted: transform it when the worker may. limits(channel): pixel values to keep. */
  take(frame, limits, map, pixelNm, nowMs) {
    this.#map = map;
    this.#pixelNm = pixelNm;
    if (!this.open || nowMs < this.#dueMs) return;
    this.#askedMs = nowMs;
    this.#dueMs = Infinity;
    const size = sizeFor(frame.rows, frame.columns);
    const channels = [...frame.channels.values()];
    const cuts = channels.map((channel) => middle(channel, size, limits(channel)));
    const names = channels.map(({ name }) => name);
    this.#worker.postMessage({ names, cuts, size }, cuts.map(({ pixels }) => pixels.buffer));
  }

  #show({ names, size, levels }) {
    const tookMs = performance.now() - this.#askedMs;
    this.#dueMs = this.#askedMs + Math.max(EVERY_MS, tookMs / SHARE);
    this.made += 1;
    names.forEach((name, at) => this.#draw(name, size, levels[at]));
  }

  #draw(name, size, levels) {
    const canvas = this.#canvases.get(name) ?? this.#add(name);
    if (canvas.width !== size) Object.assign(canvas, { width: size, height: size });
    const context = canvas.getContext("2d"), image = context.createImageData(size, size);
    const words = new Uint32Array(image.data.buffer), palette = colours(this.#map).map(word);
    levels.forEach((level, at) => (words[at] = palette[level]));
    context.putImageData(image, 0, 0);
  }

  #add(name) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `power spectrum of ${name}`);
    canvas.onpointermove = (event) => this.#read(canvas, event);
    canvas.onpointerleave = () => (this.#words.textContent = this.#title);
    figure.append(canvas, caption);
    this.root.querySelector(".spectra").append(figure);
    this.#canvases.set(name, canvas);
    return canvas;
  }

  #read(canvas, event) {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width - 0.5) * canvas.width;
    const y = ((event.clientY - box.top) / box.height - 0.5) * canvas.height;
    const far = Math.hypot(x, y);
    const words = frequency(far / canvas.width, this.#pixelNm);
    this.#words.textContent = far < 1 ? "the mean: frequency 0" : words;
  }
}

/** A spatial frequency, given in 1/px, in words. */
export function frequency(perPx, pixelNm) {
  const unit = pixelNm === null ? "px" : "nm", pixel = pixelNm ?? 1;
  return `${decimal(perPx / pixel, 3)} 1/${unit}   (period ${decimal(pixel / perPx, 3)} ${unit})`;
}
