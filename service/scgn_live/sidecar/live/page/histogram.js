/** One channel's histogram with two handles, two number fields and a word on saturation. */

import { counts, whole } from "./formats.js";
import { colours } from "./maps.js";

const BARS = 128;
const SHARE_STEP = 0.01; // of the axis, by an arrow key

export class HistogramControl {
  /** root: its element, from the template; levels: the channel's; inUse(): those it is shown with,
   * another's when linked; changed(): they were set by hand. */
  constructor(root, title, levels, inUse, changed) {
    this.root = root;
    this.levels = levels;
    this.#inUse = inUse;
    this.#changed = changed;
    this.#canvas = root.querySelector("canvas");
    this.#context = this.#canvas.getContext("2d");
    this.#warning = root.querySelector(".saturation");
    root.querySelector("h3").textContent = title;
    for (const side of ["low", "high"]) this.#prepare(side, title);
  }

  #canvas;
  #context;
  #warning;
  #inUse;
  #changed;

  #prepare(side, title) {
    const word = side === "low" ? "black level" : "white level";
    const field = this.root.querySelector(`input.${side}`);
    field.setAttribute("aria-label", `${title}: ${word}, counts`);
    field.onchange = () => Number.isFinite(field.valueAsNumber) && this.#set(side, field.valueAsNumber);
    const handle = this.root.querySelector(`.handle.${side}`);
    handle.setAttribute("aria-label", `${title}: ${word}`);
    handle.onpointerdown = (event) => handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (event) => {
      if (handle.hasPointerCapture(event.pointerId)) this.#set(side, this.#countAt(event.clientX));
    };
    handle.onkeydown = (event) => this.#key(side, event);
  }

  #key(side, event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const [from, to] = this.levels.axis;
    this.#set(side, this.#inUse()[side] + steps[event.key] * SHARE_STEP * (to - from));
  }

  #countAt(clientX) {
    const box = this.#canvas.getBoundingClientRect();
    const [from, to] = this.levels.axis;
    const share = Math.min(1, Math.max(0, (clientX - box.left) / Math.max(1, box.width)));
    return from + share * (to - from);
  }

  #set(side, count) {
    const levels = this.#inUse();
    if (side === "low") levels.hold(Math.min(count, levels.high), levels.high);
    else levels.hold(levels.low, Math.max(count, levels.low));
    this.#changed();
  }

  /** Draw what the levels know now. */
  draw(channel, map) {
    const shown = this.#inUse();
    this.#drawBars(channel, shown, map);
    const [from, to] = this.levels.axis;
    for (const side of ["low", "high"]) {
      const share = Math.min(1, Math.max(0, (shown[side] - from) / Math.max(to - from, 1e-12)));
      const handle = this.root.querySelector(`.handle.${side}`);
      handle.style.left = `${100 * share}%`;
      handle.setAttribute("aria-valuemin", counts(from));
      handle.setAttribute("aria-valuemax", counts(to));
      handle.setAttribute("aria-valuenow", counts(shown[side]));
      const field = this.root.querySelector(`input.${side}`);
      if (document.activeElement !== field) field.value = Number(shown[side].toPrecision(5));
    }
    this.#warn(channel);
  }

  #warn(channel) {
    const { saturated, nonfinite } = channel;
    const words = [];
    if (saturated > 0) words.push(`${whole(saturated)} px saturated`);
    if (nonfinite > 0) words.push(`${whole(nonfinite)} px not finite`);
    const text = words.length > 0 ? `⚠ ${words.join(", ")}` : saturated === null ? "" : "none saturated";
    if (this.#warning.textContent !== text) this.#warning.textContent = text;
    this.#warning.classList.toggle("warning", words.length > 0);
  }

  #drawBars(channel, shown, map) {
    const { width, height } = this.#fitted();
    const context = this.#context, strip = Math.round(height * 0.1);
    const bars = barsOf(this.levels, channel);
    const top = Math.log1p(Math.max(1, ...bars.heights));
    const place = (count) => ((count - bars.from) / (bars.to - bars.from)) * width;
    context.clearRect(0, 0, width, height);
    const wide = width / bars.heights.length;
    bars.heights.forEach((pixels, at) => {
      const high = (Math.log1p(pixels) / top) * (height - strip - 2);
      const count = bars.from + ((at + 0.5) / bars.heights.length) * (bars.to - bars.from);
      context.fillStyle = count < shown.low || count > shown.high ? "#46525f" : "#8fb8d4";
      context.fillRect(at * wide, height - strip - high, Math.max(1, wide - 0.5), high);
    });
    const gradient = context.createLinearGradient(place(shown.low), 0, place(shown.high) + 0.01, 0);
    const palette = colours(map);
    for (let stop = 0; stop <= 16; stop += 1) {
      gradient.addColorStop(stop / 16, `rgb(${palette[Math.round((stop * 255) / 16)].join()})`);
    }
    context.fillStyle = gradient;
    context.fillRect(0, height - strip, width, strip);
  }

  #fitted() {
    const box = this.#canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const size = { width: Math.round(box.width * ratio) || 1, height: Math.round(box.height * ratio) || 1 };
    if (this.#canvas.width !== size.width || this.#canvas.height !== size.height) {
      Object.assign(this.#canvas, size);
    }
    return size;
  }
}

/** The histogram over the levels' axis; bars of whole counts where counts are whole. */
function barsOf(levels, channel) {
  const [from, to] = levels.axis;
  let number = BARS, wide = (to - from) / BARS;
  if (channel.whole) {
    wide = Math.max(1, Math.ceil(wide));
    number = Math.max(1, Math.ceil((to - from) / wide));
  }
  const heights = new Array(number).fill(0), start = channel.whole ? Math.floor(from) : from;
  const first = Math.max(0, Math.ceil(channel.pixelOf(start)));
  const last = Math.min(65535, Math.floor(channel.pixelOf(start + number * wide)));
  for (let pixel = first; pixel <= last; pixel += 1) {
    const bar = Math.floor((channel.offset + channel.scale * pixel - start) / wide);
    if (bar >= 0 && bar < number) heights[bar] += levels.counts.of[pixel];
  }
  return { heights, from: start, to: start + number * wide };
}
