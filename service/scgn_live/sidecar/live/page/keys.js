/** The page's keys: one table for the handler and for the help. */

const PAN_PX = 40;

/** [keys, words, action(event)]. */
export function keyTable(view) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  return [
    [[" "], "pause and go on", () => view.togglePause()],
    [["s"], "snapshot: PNG as seen, counts of each channel as .npy", () => view.snapshot()],
    [["m"], "side by side, wipe, raw, denoised", () => view.nextMode()],
    [["+", "="], "zoom in", () => view.zoom(1)],
    [["-"], "zoom out", () => view.zoom(-1)],
    [["0"], "whole frame", () => view.zoomFit()],
    [["1"], "one screen pixel per frame pixel", () => view.zoomOne()],
    [Object.keys(arrows), "pan; with the cross: move it (Shift: by 10)", (event) => {
      const [x, y] = arrows[event.key];
      view.move(x, y, event.shiftKey ? 10 : 1, PAN_PX);
    }],
    [["c"], "cross: read pixels with the arrow keys", () => view.toggleCross()],
    [["l"], "freeze the levels, follow again", () => view.toggleFreeze()],
    [["r"], "reset the levels", () => view.resetLevels()],
    [["k"], "link the levels of raw to denoised", () => view.toggleLink()],
    [["p"], "next colours: grey, cividis, inferno", () => view.nextMap()],
    [["t"], "power spectrum (FFT)", () => view.toggleSpectrum()],
    [["a"], "as single frame, and back, for everybody who watches", () => view.toggleSingle()],
    [["f"], "full screen", () => view.toggleFullscreen()],
    [["?"], "these keys", () => view.toggleHelp()],
  ];
}

/** Obey the table, but for keys that belong to a field, a dialog or the browser. */
export function obeyKeys(table) {
  const actions = new Map(table.flatMap(([keys, , act]) => keys.map((key) => [key, act])));
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const typing = target.closest("input:not([type=checkbox]), select, dialog[open]") !== null;
    const pressing = key === " " && target.closest("button, input, label") !== null;
    const act = actions.get(key.length === 1 ? key.toLowerCase() : key);
    if (act === undefined || typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(event);
  });
}

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

/** Write the table into the help's list. */
export function writeHelp(list, table) {
  for (const [keys, words] of table) {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.append(...keys.map((key) => Object.assign(document.createElement("kbd"), { textContent: NAMES[key] ?? key })));
    text.textContent = words;
    list.append(term, text);
  }
}
