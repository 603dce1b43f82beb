/** From the newest frame to the canvases: at most once per screen refresh, the newest wins. */

import { Levels } from "./levels.js";
import { MAP_NAMES, Table } from "./maps.js";
import { drawCross, drawScaleBar } from "./overlay.js";
import { Raster, Viewport } from "./view.js";

const HISTORY = 600; // paints remembered for tests and the painted rate
const RATE_MS = 2000;

export class Painter {
  /** panels: {raw, denoised} of Panel; clock: of the service; painted(frame): after each new one. */
  constructor(panels, clock, painted) {
    this.panels = panels;
    this.viewport = new Viewport();
    this.levels = new Map(); // channel -> Levels
    this.frame = null; // the painted one
    this.paintedMs = NaN; // when, performance.now()
    this.ageMs = NaN; // of the frame at that moment
    this.history = [];
    this.counters = { received: 0, painted: 0, skipped: 0 };
    this.mode = "side";
    this.wipe = 0.5;
    this.map = MAP_NAMES[0];
    this.marked = false;
    this.linked = false;
    this.cross = null; // {row, column} of the pixel that is read
    this.pixelNm = null;
    this.#clock = clock;
    this.#painted = painted;
  }

  #clock;
  #painted;
  #next = null;
  #asked = false;
  #moved = true;
  #hadRaw = false;
  #tables = new Map();
  rasters = new Map();

  /** Another frame came: it is painted with the next refresh, unless a newer one comes before. */
  take(frame) {
    this.counters.received += 1;
    if (this.#next !== null) this.counters.skipped += 1;
    this.#next = frame;
    this.request();
  }

  /** Forget what came but was not painted: the picture is held. */
  hold() {
    if (this.#next !== null) this.counters.skipped += 1;
    this.#next = null;
  }

  /** Paint with the next refresh. */
  request() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#paint();
    });
  }

  /** What is seen, and what is drawn over it, changed: size, mode, zoom, cross, scale. */
  moved() {
    this.#moved = true;
    this.request();
  }

  /** The levels in use for a channel: its own, or those of denoised when linked. */
  levelsOf(name) {
    const leader = this.linked && this.levels.has("denoised") ? "denoised" : name;
    return this.levels.get(leader);
  }

  /** Levels, colours or marks changed: the painted frame in the new ones. */
  recolour() {
    if (this.frame === null) return;
    for (const [name, channel] of this.frame.channels) {
      this.#kept(this.#tables, name, Table).make(channel, this.levelsOf(name), this.map, this.marked);
      this.#kept(this.rasters, name, Raster).render(channel, this.#tables.get(name));
    }
    this.request();
  }

  #kept(map, name, Kind) {
    if (!map.has(name)) map.set(name, new Kind());
    return map.get(name);
  }

  #paint() {
    const fresh = this.#next;
    this.#next = null;
    if (fresh !== null) this.#prepare(fresh);
    if (this.frame === null) return;
    this.#draw();
    if (fresh !== null) this.#note();
  }

  #prepare(frame) {
    const other = frame.header.source !== this.frame?.header.source;
    this.frame = frame;
    if (this.viewport.shape(frame.rows, frame.columns)) this.#moved = true;
    if (frame.channels.has("raw") !== this.#hadRaw) this.#moved = true;
    this.#hadRaw = frame.channels.has("raw");
    for (const [name, channel] of frame.channels) {
      const levels = this.#kept(this.levels, name, Levels);
      if (other && levels.auto) levels.reset();
      levels.follow(channel, performance.now());
    }
    this.recolour();
  }

  #draw() {
    if (this.#moved) this.#arrange();
    for (const panel of this.shown) panel.paint(this.rasters, this.viewport);
    if (this.#moved) this.#drawOver();
    this.#moved = false;
  }

  #drawOver() {
    const scale = window.devicePixelRatio || 1;
    for (const panel of this.shown) {
      const context = panel.overlay.getContext("2d");
      context.clearRect(0, 0, panel.overlay.width, panel.overlay.height);
      drawScaleBar(context, this.viewport, this.pixelNm, scale);
      if (this.cross !== null) drawCross(context, this.viewport, this.cross, scale);
    }
  }

  #note() {
    this.paintedMs = performance.now();
    this.ageMs = this.#clock.nowMs() - this.frame.receivedMs;
    this.counters.painted += 1;
    const { source, series, frame } = this.frame.header;
    this.history.push({ source, series, frame, ageMs: this.ageMs, atMs: this.paintedMs });
    if (this.history.length > HISTORY) this.history.shift();
    this.#painted(this.frame);
  }

  get hasRaw() {
    return this.frame === null || this.frame.channels.has("raw");
  }

  /** The mode that is possible: without a raw channel only the denoised one can be shown. */
  get modeShown() {
    return this.hasRaw ? this.mode : "denoised";
  }

  get shown() {
    return Object.values(this.panels).filter((panel) => panel.shown);
  }

  #arrange() {
    const { raw, denoised } = this.panels, mode = this.modeShown;
    raw.figure.hidden = mode === "denoised" || mode === "wipe";
    denoised.figure.hidden = mode === "raw";
    raw.layers = [{ channel: "raw", from: 0, to: 1 }];
    denoised.layers = mode !== "wipe" ? [{ channel: "denoised", from: 0, to: 1 }] : [
      { channel: "raw", from: 0, to: this.wipe },
      { channel: "denoised", from: this.wipe, to: 1 },
    ];
    const words = mode === "wipe" ? "raw │ denoised" : "denoised";
    denoised.figure.querySelector("figcaption").textContent = words;
    for (const panel of this.shown) this.viewport.size(...panel.resize());
  }

  /** Frames painted per second, over the last two seconds. */
  rate(nowMs) {
    const recent = this.history.filter(({ atMs }) => nowMs - atMs < RATE_MS);
    if (recent.length < 2) return 0;
    return (1000 * (recent.length - 1)) / (nowMs - recent[0].atMs);
  }
}
