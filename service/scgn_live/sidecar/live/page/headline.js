/** The numbers that are always in sight. */

import { UNKNOWN, age, brief, decimal, rate, reasons, seconds, total, whole } from "./formats.js";

const STALE_MS = 1000;
const PATIENCE_MS = 1000; // a connection that comes back at once is not worth a word
const GROWS_AFTER_MS = 250; // without a new frame the age at painting is no longer the truth

const WHAT = {
  dropped: "Frames of this series that the service let go on purpose, because it was full",
  missing: "Frames of this series that never reached the service",
  failed: "Frames of this series that could not be processed",
};

const NO_RAW = "This service publishes no raw frames (publish_raw): only denoised ones are here.";

const byId = (id) => document.getElementById(id);

function put(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

export class Headline {
  #agesMs = [];

  /** A frame was painted at this age. */
  note(ageMs) {
    this.#agesMs.push(ageMs);
  }

  /** Show all. view: {painter, connection, status, paused}. */
  show(view) {
    const nowMs = performance.now(), { painter, connection } = view;
    const shownMs = this.#age(painter, connection, nowMs);
    const [number, unit] = age(shownMs);
    put("age", number);
    put("age-unit", unit);
    const state = stateOf(view, shownMs);
    put("state", state.word);
    byId("state").dataset.state = byId("age-box").dataset.state = state.name;
    document.title = `${state.word}${painter.frame ? ` ${painter.frame.header.source}` : ""} · live view`;
    this.#watermark(state, shownMs);
    put("rate-painted", rate(painter.rate(nowMs)));
    this.#frame(painter.frame);
    this.#service(view.status, painter.frame);
    return state;
  }

  /** Half of the frames painted since the last look were younger; NaN before the first. */
  #age(painter, connection, nowMs) {
    if (painter.frame === null) return NaN;
    const ages = this.#agesMs.sort((a, b) => a - b);
    this.#agesMs = [];
    if (nowMs - painter.paintedMs > GROWS_AFTER_MS) {
      const ageMs = connection.clock.nowMs() - painter.frame.receivedMs;
      return Number.isFinite(ageMs) ? ageMs : painter.ageMs + nowMs - painter.paintedMs;
    }
    return ages.length > 0 ? ages[ages.length >> 1] : painter.ageMs;
  }

  #watermark(state, ageMs) {
    const old = ["stale", "lost", "paused"].includes(state.name) && Number.isFinite(ageMs);
    byId("watermark").hidden = !old;
    byId("watermark").dataset.state = state.name;
    if (old) put("watermark", `${state.word} · ${age(ageMs).join(" ")} old`);
    byId("panels").classList.toggle("old", old && state.name !== "paused");
  }

  #frame(frame) {
    if (frame === null) return;
    const { header } = frame;
    put("frame", whole(header.frame));
    put("calibration", header.calibration ?? "none");
    put("model", `${header.model} · ${header.engine}`);
    put("series", `${header.source} · ${header.series}`);
    put("camera-delay", decimal(frame.receivedMs - frame.acquiredMs, 0));
  }

  #service(status, frame) {
    const row = seriesRow(status, frame);
    put("rate-in", rate(status?.rate_in_fps));
    put("rate-out", rate(status?.rate_out_fps));
    const { p50, p99 } = status?.latency_ms ?? {};
    put("latency", Number.isFinite(p50) ? `${decimal(p50, 0)}\u202f·\u202f${decimal(p99, 0)}` : UNKNOWN);
    const lost = { dropped: total(row?.dropped), missing: row?.missing, failed: total(row?.failed) };
    for (const [name, frames] of Object.entries(lost)) this.#lost(name, frames, row?.[name]);
    if (frame === null && status) {
      put("calibration", status.calibration ?? "none");
      put("model", status.model ? `${status.model} · ${status.engine}` : UNKNOWN);
    }
  }

  #lost(name, frames, byReason) {
    put(name, brief(frames));
    const tile = byId(`${name}-tile`), what = WHAT[name];
    tile.classList.toggle("some", frames > 0);
    const exactly = frames > 0 ? `: ${typeof byReason === "object" ? reasons(byReason) : whole(frames)}` : "";
    if (tile.title !== what + exactly) tile.title = what + exactly;
  }
}

/** The status row of the painted series, or of its camera's newest; undefined while unknown. */
export function seriesRow(status, frame) {
  const rows = status?.sources ?? [];
  if (frame === null) return rows[rows.length - 1];
  const { source, series } = frame.header;
  return rows.find((row) => row.source === source && row.series === series);
}

function stateOf({ painter, connection, paused }, ageMs) {
  if (paused) return { name: "paused", word: "PAUSED" };
  if (!connection.up && connection.opened > 0) return { name: "lost", word: "NO CONNECTION" };
  if (painter.frame === null) return { name: "waiting", word: "WAITING" };
  if (ageMs > STALE_MS) return { name: "stale", word: "STALE" };
  return { name: "live", word: "LIVE" };
}

/** The banner in three parts, what, since when, and then; all empty when nothing is wrong. */
export function bannerWords({ connection, status, painter }) {
  if (!connection.up) {
    const downMs = performance.now() - connection.downSinceMs;
    if (connection.refusal) return [`Not let in: ${connection.refusal}.`, "", ""];
    if (downMs < PATIENCE_MS) return ["", "", ""];
    const old = painter.frame === null ? "." : ": what you see is old.";
    return ["No connection", ` since ${seconds(downMs)}`, `${old} Trying again.`];
  }
  if (status && !status.ready) return [`The service is not ready: ${status.reasons.join("; ")}.`, "", ""];
  if (painter.frame === null) return ["Connected. Waiting for the first frame.", "", ""];
  if (!painter.hasRaw) return [NO_RAW, "", ""];
  return ["", "", ""];
}
