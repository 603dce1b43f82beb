/** Pointer and wheel on the panels: zoom, pan, read a pixel, move the wipe. */

const WHEEL = 0.0016; // of a natural logarithm, per px of wheel

/** panel: one Panel; actions: {viewport, changed(), read(place or null)}. */
export function addGestures(panel, { viewport, changed, read }) {
  const element = panel.overlay;
  const down = new Map(); // pointer id -> last place

  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    const { x, y } = panel.place(event);
    viewport.zoomBy(Math.exp(-WHEEL * pixels), x, y);
    changed();
  }, { passive: false });

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, panel.place(event));
  });

  element.addEventListener("pointermove", (event) => {
    const place = panel.place(event), before = down.get(event.pointerId);
    // A finger on the whole frame scrolls the page: it has nothing to pan here.
    const idle = before === undefined || (event.pointerType === "touch" && viewport.fit && down.size === 1);
    if (idle) return read(viewport.pixelAt(place.x, place.y));
    if (down.size === 2) pinch(event.pointerId, before, place);
    else viewport.panBy(place.x - before.x, place.y - before.y);
    down.set(event.pointerId, place);
    changed();
  });

  function pinch(id, before, place) {
    const other = [...down].find(([key]) => key !== id)[1];
    const far = (a) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y));
    viewport.zoomBy(far(place) / far(before), (place.x + other.x) / 2, (place.y + other.y) / 2);
    viewport.panBy((place.x - before.x) / 2, (place.y - before.y) / 2);
  }

  const up = (event) => {
    const place = down.get(event.pointerId);
    down.delete(event.pointerId);
    // A finger has no pointer that hovers: where it was lifted is what it reads.
    if (place !== undefined && event.pointerType === "touch") read(viewport.pixelAt(place.x, place.y));
  };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && read(null));
}

/** The wipe's divider: dragged, or moved by arrow keys. moved(share) from 0 to 1. */
export function addWipe(handle, box, share, moved) {
  const to = (value) => moved(Math.min(1, Math.max(0, value)));
  handle.onpointerdown = (event) => handle.setPointerCapture(event.pointerId);
  handle.onpointermove = (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const place = box().getBoundingClientRect();
    to((event.clientX - place.left) / Math.max(1, place.width));
  };
  handle.onkeydown = (event) => {
    const steps = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    to(share() + steps[event.key]);
  };
}
