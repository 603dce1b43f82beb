/** Snapshots: the picture as seen, and the counts behind it. */

import { counts } from "./formats.js";
import { npy } from "./npy.js";
import { drawScaleBar } from "./overlay.js";

const CAPTION_PX = 22, GAP_PX = 8, BACKGROUND = "#0b0f14", INK = "#e8eef4";

/** The frame's name in file names. */
export function stem({ header: { source, series, frame } }) {
  return `${source}_${series}_${frame}`;
}

/** A PNG (Blob) of the panels side by side with a caption that says what it is; said: of how many frames. */
export function picture(panels, frame, viewport, levels, pixelNm, said) {
  const scale = window.devicePixelRatio || 1;
  const { width, height } = panels[0].canvas;
  const lines = caption(frame, levels, said);
  const canvas = document.createElement("canvas");
  canvas.width = panels.length * width + (panels.length - 1) * GAP_PX;
  canvas.height = height + Math.round((lines.length * CAPTION_PX + 14) * scale);
  const context = canvas.getContext("2d");
  context.fillStyle = BACKGROUND;
  context.fillRect(0, 0, canvas.width, canvas.height);
  panels.forEach((panel, at) => {
    context.save();
    context.translate(at * (width + GAP_PX), 0);
    context.drawImage(panel.canvas, 0, 0);
    for (const { from } of panel.layers.slice(1)) {
      context.fillStyle = INK;
      context.fillRect(Math.round(from * width) - scale, 0, 2 * scale, height);
    }
    drawScaleBar(context, viewport, pixelNm, scale);
    write(context, panel.figure.querySelector("figcaption").textContent, 10 * scale, 10 * scale, 15 * scale);
    context.restore();
  });
  lines.forEach((line, at) =>
    write(context, line, 10 * scale, height + (12 + at * CAPTION_PX) * scale, 14 * scale, canvas.width - 20 * scale),
  );
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function write(context, text, x, y, size, most = undefined) {
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  context.lineWidth = size / 4;
  context.strokeStyle = BACKGROUND;
  context.fillStyle = INK;
  context.strokeText(text, x, y, most);
  context.fillText(text, x, y, most);
}

function caption({ header, receivedMs }, levels, said) {
  const windows = Object.entries(levels).map(
    ([name, { low, high }]) => `${name} ${counts(low)} to ${counts(high)}`,
  );
  const { source, series, frame, model, engine, calibration } = header;
  const when = new Date(receivedMs).toISOString();
  return [
    `${source}   series ${series}   frame ${frame}   received ${when}`,
    `model ${model} (${engine})   calibration ${calibration ?? "none"}${said && `   denoised: ${said}`}   shown: ${windows.join(", ")} counts`,
  ];
}

/** [file name, Blob] for each channel: the exact counts when the service still holds them. */
export function exactFiles(frame, exact) {
  let start = exact.start;
  return exact.header.channels.map(({ name, dtype, shape }) => {
    const size = shape[0] * shape[1] * Number(dtype.slice(2));
    const bytes = new Uint8Array(exact.buffer, start, size);
    start += size;
    return [`${stem(frame)}_${name}.npy`, npy(dtype, shape, bytes)];
  });
}

/** The same from what was painted: exact for whole numbers, else 16 bits of precision. */
export function paintedFiles(frame) {
  return [...frame.channels.values()].map((channel) => {
    const values = Float64Array.from(channel.pixels, (pixel) => channel.offset + channel.scale * pixel);
    const word = channel.whole ? "" : "_16bit";
    return [`${stem(frame)}_${channel.name}${word}.npy`, npy("<f8", channel.shape, values)];
  });
}

/** Let the browser save a Blob. */
export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
