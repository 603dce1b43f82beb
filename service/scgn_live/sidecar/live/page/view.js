/** Frames on the screen: one viewport for all panels, so that zoom and pan are linked. */

const ZOOM_MAX = 64; // device pixels per frame pixel
const STEP = 1.25;
const PROBE = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

/** What part of the frame is seen. zoom: device px per frame px; centre: frame px. */
export class Viewport {
  fit = true;
  zoom = 1;
  row = 0;
  column = 0;
  rows = 1;
  columns = 1;
  width = 1; // of a panel, device px; all panels are alike
  height = 1;

  /** Frames have this shape now; whether it is another one. */
  shape(rows, columns) {
    if (rows === this.rows && columns === this.columns) return false;
    Object.assign(this, { rows, columns });
    this.toFit();
    return true;
  }

  /** Panels have this size now, device px. */
  size(width, height) {
    Object.assign(this, { width, height });
    if (this.fit) this.toFit();
  }

  /** The zoom that shows the whole frame; a whole number where little is lost by it. */
  get fitZoom() {
    const zoom = Math.min(this.width / this.columns, this.height / this.rows);
    const whole = Math.floor(zoom);
    return whole >= 1 && whole / zoom > 0.88 ? whole : zoom;
  }

  toFit() {
    this.fit = true;
    this.zoom = this.fitZoom;
    this.row = this.rows / 2;
    this.column = this.columns / 2;
  }

  /** Zoom by a factor, keeping what is at (x, y) of a panel, device px, where it is. */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    this.zoomTo(this.zoom * factor, x, y);
  }

  zoomTo(zoom, x = this.width / 2, y = this.height / 2) {
    const { left, top } = this;
    const column = (x - left) / this.zoom, row = (y - top) / this.zoom;
    this.zoom = Math.min(ZOOM_MAX, Math.max(this.fitZoom / 2, zoom));
    this.column = column - (x - this.width / 2) / this.zoom;
    this.row = row - (y - this.height / 2) / this.zoom;
    this.fit = false;
    this.#stay();
  }

  step(direction) {
    this.zoomBy(STEP ** direction);
  }

  /** Move what is seen by device px. */
  panBy(x, y) {
    this.column -= x / this.zoom;
    this.row -= y / this.zoom;
    this.fit = false;
    this.#stay();
  }

  /** The middle of the panel never leaves the frame. */
  #stay() {
    this.row = Math.min(this.rows, Math.max(0, this.row));
    this.column = Math.min(this.columns, Math.max(0, this.column));
  }

  /** Where the frame's corner is, whole device px: pixels then have sharp edges. */
  get left() {
    return Math.round(this.width / 2 - this.column * this.zoom);
  }

  get top() {
    return Math.round(this.height / 2 - this.row * this.zoom);
  }

  /** The frame pixel at (x, y) of a panel, null outside the frame. */
  pixelAt(x, y) {
    const row = Math.floor((y - this.top) / this.zoom);
    const column = Math.floor((x - this.left) / this.zoom);
    const inside = row >= 0 && row < this.rows && column >= 0 && column < this.columns;
    return inside ? { row, column } : null;
  }

  /** The middle of a frame pixel on a panel, device px. */
  placeOf(row, column) {
    return { x: this.left + (column + 0.5) * this.zoom, y: this.top + (row + 0.5) * this.zoom };
  }
}

/** One channel's pixels as colours, at the frame's own size. */
export class Raster {
  canvas = document.createElement("canvas");
  #context = this.canvas.getContext("2d");
  #image = null;
  #words = null;

  render(channel, table) {
    const { rows, columns, pixels } = channel;
    if (this.#image?.width !== columns || this.#image.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.#image = this.#context.createImageData(columns, rows);
      this.#words = new Uint32Array(this.#image.data.buffer);
    }
    const words = this.#words, colours = table.words;
    for (let at = 0; at < pixels.length; at += 1) words[at] = colours[pixels[at]];
    this.#context.putImageData(this.#image, 0, 0);
  }
}

/** One canvas of the page with another above it for what is drawn over the frame. */
export class Panel {
  constructor(figure) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas.frame");
    this.overlay = figure.querySelector("canvas.overlay");
    this.layers = [];
    this.#context = this.canvas.getContext("2d", { alpha: false });
  }

  #context;

  /** Fit the canvases to their place; width and height in device px. */
  resize() {
    const box = this.figure.querySelector(".picture").getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(box.width * ratio));
    const height = Math.max(1, Math.round(box.height * ratio));
    for (const canvas of [this.canvas, this.overlay]) {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    return [width, height];
  }

  get shown() {
    return !this.figure.hidden;
  }

  /** Draw the layers, [{channel, from, to}], each in its share of the width. */
  paint(rasters, viewport) {
    const { width, height } = this.canvas;
    const context = this.#context;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = viewport.zoom < 1;
    context.imageSmoothingQuality = "medium";
    const size = [viewport.columns * viewport.zoom, viewport.rows * viewport.zoom];
    for (const { channel, from, to } of this.layers) {
      const raster = rasters.get(channel);
      if (raster === undefined) continue;
      context.save();
      context.beginPath();
      context.rect(Math.round(from * width), 0, Math.round(to * width) - Math.round(from * width), height);
      context.clip();
      context.drawImage(raster.canvas, viewport.left, viewport.top, ...size);
      context.restore();
    }
  }

  /** (x, y) in device px of a pointer event. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / Math.max(1, box.width);
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  }

  /** [red, green, blue] on the canvas of a frame pixel of a channel; null when it is not seen. */
  colourAt(channel, row, column, viewport) {
    const place = viewport.placeOf(row, column);
    const [x, y] = [Math.floor(place.x), Math.floor(place.y)];
    const { width, height } = this.canvas;
    const share = x / width;
    const seen = this.layers.some((one) => one.channel === channel && one.from <= share && share < one.to);
    if (!seen || x < 0 || y < 0 || x >= width || y >= height) return null;
    // Read from a copy: a canvas that is read often is taken off the graphics card.
    PROBE.drawImage(this.canvas, x, y, 1, 1, 0, 0, 1, 1);
    return [...PROBE.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }
}
