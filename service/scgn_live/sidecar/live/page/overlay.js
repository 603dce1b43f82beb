/** What is drawn over a frame: the scale bar and the cross. */

import { length, roundBelow } from "./formats.js";

const BAR_SHARE = 0.22; // of the frame's visible width, at most
const INK = "#ffffff", SHADE = "rgba(0, 0, 0, 0.72)";

/** The scale bar's length: device px and words. `pixelNm`: null when the camera did not say. */
export function scaleBar(viewport, pixelNm) {
  const seen = Math.min(viewport.width, viewport.columns * viewport.zoom);
  const unit = pixelNm ?? 1;
  const long = roundBelow((BAR_SHARE * seen * unit) / viewport.zoom);
  if (pixelNm === null && long < 1) return null;
  return { px: (long / unit) * viewport.zoom, words: pixelNm === null ? `${long} px` : length(long) };
}

/** Draw the bar at the lower left of the visible frame; `scale`: device px of a CSS px. */
export function drawScaleBar(context, viewport, pixelNm, scale) {
  const bar = scaleBar(viewport, pixelNm);
  if (bar === null) return;
  const margin = 12 * scale, thick = 5 * scale, font = 15 * scale;
  const left = Math.max(0, viewport.left) + margin;
  const bottom = Math.min(viewport.height, viewport.top + viewport.rows * viewport.zoom) - margin;
  context.font = `600 ${font}px system-ui, sans-serif`;
  const wide = Math.max(bar.px, context.measureText(bar.words).width);
  context.fillStyle = SHADE;
  context.beginPath();
  const pad = 7 * scale;
  context.roundRect(left - pad, bottom - thick - font - 2 * pad, wide + 2 * pad, thick + font + 2.6 * pad, 4 * scale);
  context.fill();
  context.fillStyle = INK;
  context.fillRect(left, bottom - thick, bar.px, thick);
  context.textBaseline = "bottom";
  context.fillText(bar.words, left, bottom - thick - 3 * scale);
}

/** Draw a cross that leaves its pixel free, and a frame around it when pixels are large. */
export function drawCross(context, viewport, cross, scale) {
  const { x, y } = viewport.placeOf(cross.row, cross.column);
  const gap = Math.max(4 * scale, viewport.zoom / 2 + scale), arm = gap + 11 * scale;
  for (const [colour, wide] of [[SHADE, 4 * scale], ["#56b4e9", 2 * scale]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * gap, y + dy * gap);
      context.lineTo(x + dx * arm, y + dy * arm);
    }
    if (viewport.zoom >= 6 * scale) {
      const half = viewport.zoom / 2;
      context.rect(x - half, y - half, viewport.zoom, viewport.zoom);
    }
    context.stroke();
  }
}
