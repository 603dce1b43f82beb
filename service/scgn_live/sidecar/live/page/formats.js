/** Numbers as people read them. Nothing known is shown as a dash. */

export const UNKNOWN = "–";
const NARROW_SPACE = "\u202f";

/** A whole number (or the text of one) with groups of three digits. */
export function whole(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, NARROW_SPACE);
}

/** The same in few characters: 12 345, 1.23 M. */
export function brief(value) {
  if (!(value >= 1e5)) return whole(value);
  const [unit, word] = value >= 1e9 ? [1e9, "G"] : value >= 1e6 ? [1e6, "M"] : [1e3, "k"];
  return `${(value / unit).toPrecision(3)}${NARROW_SPACE}${word}`;
}

/** A number with `digits` after the point. */
export function decimal(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : UNKNOWN;
}

/** A count: as it is when whole, else to about five digits. */
export function counts(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(3);
  return value.toFixed(Math.max(0, Math.min(4, 4 - Math.floor(Math.log10(size)))));
}

/** A time as a number and its unit: ms up to ten seconds, then s, then min. */
export function age(ms) {
  if (!Number.isFinite(ms)) return [UNKNOWN, "ms"];
  if (ms < 9999.5) return [String(Math.round(ms)), "ms"];
  if (ms < 99_950) return [(ms / 1000).toFixed(1), "s"];
  if (ms < 6e6) return [String(Math.floor(ms / 60_000)), `min ${Math.floor(ms / 1000) % 60} s`];
  return [String(Math.floor(ms / 3_600_000)), "h"];
}

/** Whole seconds of a time in ms. */
export function seconds(ms) {
  return `${Math.floor(ms / 1000)}${NARROW_SPACE}s`;
}

/** Frames per second: one digit after the point below a hundred. */
export function rate(perSecond) {
  return decimal(perSecond, perSecond < 99.95 ? 1 : 0);
}

/** A length in nm with a fitting unit. */
export function length(nm) {
  if (nm >= 1000) return `${tidy(nm / 1000)} µm`;
  if (nm < 0.1) return `${tidy(nm * 1000)} pm`;
  return `${tidy(nm)} nm`;
}

/** To so many digits that count, without zeros behind: 8, 0.56, 12 300. */
export function significant(value, digits) {
  return Number.isFinite(value) ? grouped(Number(value.toPrecision(digits))) : UNKNOWN;
}

/** At most three digits after the point below ten, whole above a hundred; groups of three. */
export function grouped(value) {
  const digits = value < 10 ? 3 : value < 100 ? 1 : 0;
  const [number, fraction] = String(Number(value.toFixed(digits))).split(".");
  return fraction === undefined ? whole(number) : `${whole(number)}.${fraction}`;
}

/** The largest of 1, 2, 5 times a power of ten that is at most `limit`. */
export function roundBelow(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  const step = [5, 2, 1].find((factor) => factor * power <= limit * (1 + 1e-9)) ?? 1;
  return step * power;
}

function tidy(value) {
  return String(Number(value.toPrecision(3)));
}

/** Frames of all reasons in a ledger's map. */
export function total(byReason) {
  if (byReason === null || byReason === undefined) return null;
  return Object.values(byReason).reduce((sum, frames) => sum + frames, 0);
}

/** A ledger's map in words: "overload 3, shutdown 1". */
export function reasons(byReason) {
  return Object.entries(byReason ?? {})
    .map(([reason, frames]) => `${reason} ${whole(frames)}`)
    .join(", ");
}
