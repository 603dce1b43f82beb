/** The page as a whole: what comes, what is shown, what can be asked of it. */

import { Connection } from "./connection.js";
import { showControls, showReadout } from "./controls.js";
import { SpectrumPanel } from "./fft.js";
import { Headline, bannerWords, seriesRow } from "./headline.js";
import { HistogramControl } from "./histogram.js";
import { MAP_NAMES } from "./maps.js";
import { Painter } from "./painter.js";
import { StreamPanel, verdict } from "./stream.js";
import { exactFiles, paintedFiles, picture, save, stem } from "./snapshot.js";
import { Panel } from "./view.js";

const SHOW_MS = 200; // numbers and histograms: five times a second
const OLDER_MS = 2500; // a status that was asked for before a change may come so late
const TOAST_MS = 6000;
const MODES = ["side", "wipe", "raw", "denoised"];

const byId = (id) => document.getElementById(id);

export class LiveView {
  constructor() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.connection = new Connection(`${scheme}://${location.host}/live/frames`, {
      frame: (frame) => !this.paused && !document.hidden && this.painter.take(frame),
      status: (status) => this.#newStatus(status),
      token: (tried) => this.#askToken(tried),
    });
    const panels = { raw: new Panel(byId("panel-raw")), denoised: new Panel(byId("panel-denoised")) };
    this.painter = new Painter(panels, this.connection.clock, (frame) => this.#painted(frame));
    this.headline = new Headline();
    this.spectrum = new SpectrumPanel(byId("spectrum"));
    this.stream = new StreamPanel();
    this.together = null; // `temporal` before we switched it off for a look
    this.told = { value: null, untilMs: 0 }; // what we set: a status under way then is older
    this.status = null;
    this.paused = false;
    this.source = null; // null: whichever camera sends
    this.reading = false; // the cross is moved by keys
    this.histograms = new Map();
  }

  open() {
    this.want();
    this.connection.open();
    setInterval(() => !document.hidden && this.#show(), SHOW_MS);
  }

  // What comes.

  #painted(frame) {
    this.headline.note(this.painter.ageMs);
    this.stream.note(frame);
    this.#transform(frame);
  }

  #transform(frame) {
    const { levels, map, pixelNm } = this.painter;
    const limits = (channel) => levels.get(channel.name).extremes.map((count) => channel.pixelOf(count));
    this.spectrum.take(frame, limits, map, pixelNm, performance.now());
  }

  #newStatus(status) {
    if (performance.now() < this.told.untilMs) status.temporal = this.told.value;
    this.status = status;
    const select = byId("source"), names = status.sources.map((row) => row.source).sort();
    byId("source-box").hidden = names.length < 2;
    const wanted = ["", ...names].join("\n");
    if ([...select.options].map((option) => option.value).join("\n") === wanted) return;
    select.replaceChildren(new Option("newest of any", ""), ...names.map((name) => new Option(name, name)));
    select.value = this.source ?? "";
  }

  #askToken(tried) {
    byId("token-words").textContent = tried
      ? "That is not this service's token."
      : "This service asks for its token. It stays in this tab only.";
    if (!byId("token-dialog").open) byId("token-dialog").showModal();
  }

  /** Say what we want now: nothing while hidden, no frames while paused. */
  want() {
    if (document.hidden) this.connection.want("nothing");
    else if (this.paused) this.connection.want("status");
    else this.connection.want("frame", this.source);
  }

  // What is shown.

  #show() {
    const { painter } = this;
    const row = seriesRow(this.status, painter.frame);
    this.#showScale(row?.pixel_size_nm ?? null);
    this.stream.show(painter.frame, row, this.status?.temporal ?? null);
    showReadout(painter);
    this.headline.show(this);
    this.#showBanner();
    for (const [name, channel] of painter.frame?.channels ?? []) {
      const control = this.histograms.get(name) ?? this.#addHistogram(name);
      control.draw(channel, painter.map);
    }
    for (const [name, { root }] of this.histograms) root.hidden = !painter.frame.channels.has(name);
    showControls(this);
  }

  #showScale(pixelNm) {
    if (pixelNm === this.painter.pixelNm) return;
    this.painter.pixelNm = pixelNm;
    this.painter.moved();
  }

  /** What is wrong. The seconds tick for the eye alone: a screen reader is told the rest, once. */
  #showBanner() {
    const parts = bannerWords(this);
    byId("banner").hidden = parts.join("") === "";
    ["banner-what", "banner-since", "banner-then"].forEach((id, at) => {
      if (byId(id).textContent !== parts[at]) byId(id).textContent = parts[at];
    });
  }

  #addHistogram(name) {
    const root = byId("histogram").content.firstElementChild.cloneNode(true);
    const { levels } = this.painter, inUse = () => this.painter.levelsOf(name);
    const changed = () => this.#relevel();
    const control = new HistogramControl(root, `${name}, counts`, levels.get(name), inUse, changed);
    byId("histograms")[name === "raw" ? "prepend" : "append"](root);
    this.histograms.set(name, control);
    return control;
  }

  #relevel() {
    this.painter.recolour();
    this.#show();
  }

  /** What part of the frame is seen, or which pixel is read, is another now. */
  changed() {
    this.painter.moved();
    showReadout(this.painter);
    showControls(this);
  }

  /** Say something for a few seconds. */
  say(text) {
    const toast = byId("toast");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => (toast.hidden = true), TOAST_MS);
  }

  // What can be asked of it.

  togglePause() {
    this.paused = !this.paused;
    this.painter.hold();
    this.want();
    this.#show();
  }

  async snapshot() {
    const { painter } = this, { frame } = painter;
    if (frame === null) return this.say("There is no frame yet.");
    const levels = Object.fromEntries([...frame.channels.keys()].map((name) => [name, painter.levelsOf(name)]));
    const asked = this.connection.exact(frame); // at once: the service holds only the last few
    const said = verdict(frame, seriesRow(this.status, frame))?.words ?? "";
    const image = await picture(painter.shown, frame, painter.viewport, levels, painter.pixelNm, said);
    const exact = await asked;
    const files = exact === null ? paintedFiles(frame) : exactFiles(frame, exact);
    for (const [name, blob] of [[`${stem(frame)}.png`, image], ...files]) save(name, blob);
    const gone = "counts from the painted 16 bits, as the service no longer holds this frame";
    this.say(`Saved frame ${frame.header.frame}: picture and ${exact === null ? gone : "exact counts"}.`);
  }

  /** The pointer is over this pixel, null: over none. With the cross, keys say which. */
  read(place) {
    if (this.reading && place === null) return;
    this.painter.cross = place;
    this.changed();
  }

  setSource(source) {
    this.source = source;
    this.want();
  }

  /** How many frames the network may see together, for everybody: "auto", "off", or a number. */
  async setTemporal(value) {
    this.together = null;
    await this.#tell(value);
  }

  /** Each frame alone, and back to what was before. */
  async toggleSingle() {
    const now = this.status?.temporal ?? null;
    if (now === null) return this.say("The network here has no memory: every frame is a single one.");
    const next = now === "off" ? (this.together ?? "auto") : "off";
    this.together = now === "off" ? null : now;
    await this.#tell(next);
  }

  async #tell(value) {
    const refused = await this.connection.post("/temporal", { temporal: value });
    if (refused !== null) return this.say(refused);
    this.told = { value, untilMs: performance.now() + OLDER_MS };
    if (this.status !== null) this.status.temporal = value;
    this.#show();
  }

  /** The page goes: what it switched off for a look is on again for the others. */
  leave() {
    const back = this.together !== null && this.status?.temporal === "off";
    if (back) this.connection.post("/temporal", { temporal: this.together }, true);
    this.together = null;
  }

  setMarked(marked) {
    this.painter.marked = marked;
    this.#relevel();
  }

  setMode(mode) {
    this.painter.mode = mode;
    this.changed();
  }

  nextMode() {
    this.setMode(MODES[(MODES.indexOf(this.painter.mode) + 1) % MODES.length]);
  }

  setWipe(share) {
    this.painter.wipe = share;
    const handle = byId("wipe");
    handle.style.left = `${100 * share}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    this.painter.moved();
  }

  zoom(direction) {
    this.painter.viewport.step(direction);
    this.changed();
  }

  zoomFit() {
    this.painter.viewport.toFit();
    this.changed();
  }

  zoomOne() {
    this.painter.viewport.zoomTo(1);
    this.changed();
  }

  /** An arrow key: move the cross by pixels, else what is seen by screen pixels. */
  move(x, y, pixels, panPx) {
    const { viewport, cross } = this.painter;
    if (this.reading && cross !== null) {
      const row = Math.min(viewport.rows - 1, Math.max(0, cross.row + y * pixels));
      const column = Math.min(viewport.columns - 1, Math.max(0, cross.column + x * pixels));
      this.painter.cross = { row, column };
    } else {
      viewport.panBy(-x * panPx * pixels, -y * panPx * pixels);
    }
    this.changed();
  }

  toggleCross() {
    const { viewport } = this.painter;
    this.reading = !this.reading;
    this.painter.cross = this.reading
      ? { row: Math.floor(viewport.row), column: Math.floor(viewport.column) }
      : null;
    this.changed();
  }

  toggleFreeze() {
    const all = [...this.painter.levels.values()];
    const freeze = all.some((levels) => levels.auto);
    for (const levels of all) freeze ? levels.hold(levels.low, levels.high) : (levels.auto = true);
    this.#relevel();
  }

  resetLevels() {
    for (const levels of this.painter.levels.values()) levels.reset();
    if (this.painter.frame !== null) {
      for (const [name, channel] of this.painter.frame.channels) {
        this.painter.levels.get(name).follow(channel, performance.now());
      }
    }
    this.#relevel();
  }

  toggleLink() {
    this.painter.linked = !this.painter.linked;
    this.#relevel();
  }

  setMap(name) {
    this.painter.map = byId("map").value = name;
    this.#relevel();
  }

  nextMap() {
    this.setMap(MAP_NAMES[(MAP_NAMES.indexOf(this.painter.map) + 1) % MAP_NAMES.length]);
  }

  toggleSpectrum() {
    this.spectrum.toggle();
    if (this.painter.frame !== null) this.#transform(this.painter.frame);
    showControls(this);
  }

  toggleFullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.();
  }

  toggleHelp() {
    const dialog = byId("help-dialog");
    dialog.open ? dialog.close() : dialog.showModal();
  }
}
