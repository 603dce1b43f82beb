/** How the page's controls stand, and the pixel that is read. */

import { counts } from "./formats.js";

const HINT = "point at a pixel to read it, or press c and the arrow keys";

const byId = (id) => document.getElementById(id);

function put(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function press(id, pressed) {
  byId(id).setAttribute("aria-pressed", String(pressed));
}

/** Buttons, zoom, modes and the wipe as the view is now. */
export function showControls({ painter, paused, spectrum }) {
  press("link", painter.linked);
  press("pause", paused);
  press("fft", spectrum.open);
  put("pause", paused ? "Go on" : "Pause");
  put("zoom", `${Math.round(100 * painter.viewport.zoom)}%`);
  byId("wipe").hidden = painter.modeShown !== "wipe";
  byId("panels").classList.toggle("fit", painter.viewport.fit);
  showFrozen([...painter.levels.values()]);
  showModes(painter);
}

function showFrozen(all) {
  const frozen = all.filter((levels) => !levels.auto).length, whole = frozen === all.length;
  press("freeze", frozen > 0 && whole);
  const some = whole ? "frozen" : "one frozen, one follows";
  put("levels-state", frozen === 0 ? "they follow 0.5 % to 99.5 % of the frame" : some);
}

function showModes({ hasRaw, modeShown }) {
  for (const button of byId("modes").children) {
    const chosen = button.dataset.mode === modeShown;
    button.setAttribute("aria-checked", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    button.disabled = !hasRaw && button.dataset.mode !== "denoised";
  }
}

/** Row, column and counts of the pixel under the pointer or the cross; raw first, as it lies. */
export function showReadout({ frame, cross }) {
  const inside = frame && cross && cross.row < frame.rows && cross.column < frame.columns;
  put("place", inside ? `row ${cross.row}  column ${cross.column}` : HINT);
  for (const name of ["raw", "denoised"]) {
    const channel = inside ? frame.channels.get(name) : undefined;
    byId(`read-${name}`).hidden = channel === undefined;
    if (channel !== undefined) put(`count-${name}`, counts(channel.countAt(cross.row, cross.column)));
  }
}
