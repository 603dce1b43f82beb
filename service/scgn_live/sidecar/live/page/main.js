/** Starts the page: the parts are joined with its elements and keys. */

import { addGestures, addWipe } from "./gestures.js";
import { addHook } from "./hook.js";
import { keyTable, obeyKeys, writeHelp } from "./keys.js";
import { LiveView } from "./live-view.js";
import { MAP_NAMES } from "./maps.js";

const byId = (id) => document.getElementById(id);

function joinButtons(view) {
  const clicks = {
    pause: () => view.togglePause(), snapshot: () => view.snapshot(), fft: () => view.toggleSpectrum(),
    "zoom-in": () => view.zoom(1), "zoom-out": () => view.zoom(-1), "zoom-fit": () => view.zoomFit(),
    "zoom-one": () => view.zoomOne(), freeze: () => view.toggleFreeze(), link: () => view.toggleLink(),
    reset: () => view.resetLevels(), single: () => view.toggleSingle(), fullscreen: () => view.toggleFullscreen(), help: () => view.toggleHelp(),
  };
  for (const [id, act] of Object.entries(clicks)) byId(id).onclick = act;
  byId("help-dialog").querySelector(".close").onclick = () => view.toggleHelp();
}

/** One of several: by a click, or by the arrow keys. */
function joinRadios(id, choose) {
  const buttons = [...byId(id).children];
  for (const button of buttons) button.onclick = () => choose(button.dataset);
  byId(id).onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const here = buttons.indexOf(document.activeElement);
    const next = buttons[(here + step + buttons.length) % buttons.length];
    choose(next.dataset);
    next.focus();
  };
}

function joinModes(view) {
  joinRadios("modes", ({ mode }) => view.setMode(mode));
  joinRadios("temporal", ({ temporal }) => view.setTemporal(Number(temporal) || temporal));
}

function joinFields(view) {
  const map = byId("map");
  map.append(...MAP_NAMES.map((name) => new Option(name, name)));
  map.onchange = () => view.setMap(map.value);
  byId("mark").onchange = () => view.setMarked(byId("mark").checked);
  byId("source").onchange = () => view.setSource(byId("source").value || null);
  byId("token-dialog").onclose = () => {
    view.connection.useToken(byId("token").value.trim());
    byId("token").value = "";
  };
}

function joinPanels(view) {
  const { viewport, panels } = view.painter;
  const actions = { viewport, changed: () => view.changed(), read: (place) => view.read(place) };
  for (const panel of Object.values(panels)) addGestures(panel, actions);
  addWipe(byId("wipe"), () => panels.denoised.canvas, () => view.painter.wipe, (share) => view.setWipe(share));
  view.setWipe(0.5);
  new ResizeObserver(() => view.changed()).observe(byId("panels"));
}

function joinPage(view) {
  document.addEventListener("visibilitychange", () => view.want());
  window.addEventListener("pagehide", () => view.leave());
  document.addEventListener("fullscreenchange", () => {
    document.documentElement.classList.toggle("wall", document.fullscreenElement !== null);
  });
  const table = keyTable(view);
  obeyKeys(table);
  writeHelp(byId("keys"), table);
  addHook(view);
}

const view = new LiveView();
for (const join of [joinButtons, joinModes, joinFields, joinPanels, joinPage]) join(view);
view.open();
