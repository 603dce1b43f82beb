/** What the service knows from the frames before this one: memory, drift, dose, and how good it is. */

import { UNKNOWN, decimal, grouped, significant } from "./formats.js";

const TREND_VALUES = 240; // of uPSNR, one a judged frame
const TREND_DB = 1; // the least height of the trend: noise is no change
const STILL_PX = 0.02; // a frame: less has no direction worth an arrow
const TOO_LOW = "estimate only";
const FROM = { stream: "the stream", calibration: "the calibration", frame: "one frame" };

const byId = (id) => document.getElementById(id);

function put(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

/** How many frames are behind one, in words. */
export function framesBehind(averaged) {
  const frames = Math.round(averaged);
  return frames > 1 ? `mean of ${frames} frames` : "this frame alone";
}

/** What is shown and whether it is a warning; null while nothing is known of the stream. */
export function verdict(frame, row) {
  if (!knows(frame, row)) return null;
  const word = row?.stream?.quality?.word ?? "";
  if (word.startsWith(TOO_LOW)) return { words: word, warns: true };
  const { averaged, quality } = frame.header, shown = quality?.shown ?? row?.stream?.shown;
  if (shown === "estimate") return { words: TOO_LOW, warns: true };
  return { words: shown === "single" ? "single frame" : framesBehind(averaged), warns: false };
}

/** Whether the network keeps a memory of this camera. */
function knows(frame, row) {
  if (frame === null) return false;
  const { averaged, drift_px, quality, dose_e_per_px } = frame.header;
  const told = averaged !== 1 || [drift_px, quality, dose_e_per_px].some((known) => known !== null);
  return told || (row?.stream ?? null) !== null;
}

/** The last values of uPSNR of one series. */
class Trend {
  values = [];
  #of = "";
  #last = null;

  take({ source, series, quality }) {
    if (this.#of !== `${source}\n${series}`) {
      this.#of = `${source}\n${series}`;
      this.#last = null;
      this.values = [];
    }
    if (quality === null || quality.frame === this.#last) return;
    this.#last = quality.frame;
    if (Number.isFinite(quality.upsnr_db)) this.values.push(quality.upsnr_db);
    if (this.values.length > TREND_VALUES) this.values.shift();
  }

  /** Points of a line 100 wide and 24 high, the newest at the right; empty for fewer than two. */
  get points() {
    const { values } = this;
    if (values.length < 2) return "";
    const low = Math.min(...values), high = Math.max(...values);
    const span = Math.max(high - low, TREND_DB), middle = (low + high) / 2;
    const step = 98 / (values.length - 1);
    return values
      .map((db, at) => `${(1 + at * step).toFixed(1)},${(12 - (20 * (db - middle)) / span).toFixed(1)}`)
      .join(" ");
  }
}

/** The section "Stream" and the words over the denoised frame. */
export class StreamPanel {
  trend = new Trend();

  /** A frame was painted. */
  note(frame) {
    this.trend.take(frame.header);
  }

  /** row: of the status, of the painted frame's series; temporal: the service's setting now. */
  show(frame, row, temporal) {
    const said = verdict(frame, row);
    byId("stream").hidden = byId("shown-over").hidden = said === null;
    if (said === null) return;
    put("shown-over", said.words);
    byId("shown-over").classList.toggle("warns", said.warns);
    put("stream-warning", said.warns ? said.words : "");
    byId("stream-warning").hidden = !said.warns;
    const { header } = frame, known = row?.stream ?? {};
    put("shown", header.quality?.shown ?? known.shown ?? UNKNOWN);
    put("averaged", framesBehind(header.averaged));
    put("noise-from", known.noise?.from ? `noise known from ${FROM[known.noise.from] ?? known.noise.from}` : "");
    put("moving", `${decimal(100 * header.moving, header.moving < 0.0995 ? 1 : 0)} % of pixels`);
    this.#drift(header);
    this.#dose(header.dose_e_per_px, known.dose ?? {});
    this.#quality(header.quality);
    showTemporal(temporal);
  }

  #drift({ drift_px: px, drift_nm_s: nm }) {
    const arrow = byId("drift-arrow"), size = px === null ? NaN : Math.hypot(...px);
    arrow.classList.toggle("still", !(size >= STILL_PX));
    if (size >= STILL_PX) {
      const [rows, columns] = px; // rows grow downwards, as the page's own y does
      arrow.firstElementChild.setAttribute("transform", `rotate(${(Math.atan2(rows, columns) * 180) / Math.PI})`);
    }
    put("drift", px === null ? "not known yet" : `${decimal(size, 2)} px/frame`);
    put("drift-nm", nm === null ? "" : `${significant(Math.hypot(...nm), 2)} nm/s`);
  }

  #dose(ofFrame, { accumulated_e_per_a2: perArea, accumulated_e_per_px: perPixel }) {
    put("dose", ofFrame === null ? "gain not known" : `${significant(ofFrame, 3)} e/px`);
    const all = Number.isFinite(perArea) ? [perArea, "e/Å²"] : [perPixel, "e/px"];
    put("dose-all", Number.isFinite(all[0]) ? `${grouped(all[0])} ${all[1]} so far` : "");
  }

  #quality(quality) {
    const { upsnr_db: upsnr, error_db: error } = quality ?? {};
    const margin = Number.isFinite(error) ? ` ± ${decimal(error, 1)}` : "";
    put("upsnr", Number.isFinite(upsnr) ? `${decimal(upsnr, 1)}${margin} dB` : "not sure yet");
    const { points, values } = this.trend, line = byId("trend-line");
    if (line.getAttribute("points") !== points) line.setAttribute("points", points);
    const range = `${decimal(Math.min(...values), 1)} to ${decimal(Math.max(...values), 1)} dB`;
    byId("trend").setAttribute("aria-label", points ? `uPSNR of the last ${values.length} judged frames: ${range}` : "");
  }
}

/** The control of the network's memory as the service has it; null: there is none to control. */
function showTemporal(value) {
  byId("temporal-control").hidden = value === null;
  const buttons = [...byId("temporal").children];
  const chosen = buttons.find((button) => button.dataset.temporal === String(value));
  for (const button of buttons) {
    button.setAttribute("aria-checked", String(button === chosen));
    button.tabIndex = button === (chosen ?? buttons[0]) ? 0 : -1;
  }
  put("temporal-other", value !== null && chosen === undefined ? `set to ${value} frames` : "");
  byId("single").setAttribute("aria-pressed", String(value === "off"));
}
