/** Power spectra of a frame's middle: windowed, zero-padded, radix 2, two channels in one go. */

export const SIZE_MAX = 512;
const BINS = 4096;

/** The smallest power of two that holds the frame, at most SIZE_MAX. */
export function sizeFor(rows, columns) {
  let size = 2;
  while (size < Math.max(rows, columns) && size < SIZE_MAX) size *= 2;
  return size;
}

/** The middle of a channel, at most `size` a side, clipped to these pixel values: a copy.
 *
 * Clipped, because one hot pixel is a plane wave over the whole spectrum.
 */
export function middle({ pixels, rows, columns }, size, [low, high]) {
  const tall = Math.min(rows, size), wide = Math.min(columns, size);
  const top = (rows - tall) >> 1, left = (columns - wide) >> 1;
  const cut = new Uint16Array(tall * wide);
  for (let row = 0; row < tall; row += 1) {
    for (let column = 0; column < wide; column += 1) {
      const pixel = pixels[(top + row) * columns + left + column];
      cut[row * wide + column] = pixel < low ? low : pixel > high ? high : pixel;
    }
  }
  return { pixels: cut, rows: tall, columns: wide };
}

/** What a transform of `count` numbers, a power of two, needs: order and factors. */
export function plan(count) {
  const order = new Uint32Array(count), bits = Math.log2(count);
  for (let at = 0; at < count; at += 1) {
    for (let bit = 0; bit < bits; bit += 1) order[at] |= ((at >> bit) & 1) << (bits - 1 - bit);
  }
  const cosine = Float64Array.from({ length: count / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / count));
  const sine = Float64Array.from({ length: count / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / count));
  return { count, order, cosine, sine };
}

/** In place: the discrete Fourier transform of the complex numbers from `start` on. */
export function transform({ count, order, cosine, sine }, real, imaginary, start) {
  for (let at = 0; at < count; at += 1) {
    if (order[at] <= at) continue;
    const a = start + at, b = start + order[at];
    const x = real[a], y = imaginary[a];
    real[a] = real[b];
    imaginary[a] = imaginary[b];
    real[b] = x;
    imaginary[b] = y;
  }
  for (let half = 1; half < count; half *= 2) {
    const stride = count / (2 * half);
    for (let group = start; group < start + count; group += 2 * half) {
      for (let step = 0; step < half; step += 1) {
        const a = group + step, b = a + half, c = cosine[step * stride], s = sine[step * stride];
        const x = real[b] * c - imaginary[b] * s, y = real[b] * s + imaginary[b] * c;
        real[b] = real[a] - x;
        imaginary[b] = imaginary[a] - y;
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}

function hann(count) {
  return Float64Array.from({ length: count }, (_, at) => Math.sin((Math.PI * (at + 0.5)) / count) ** 2);
}

/** The cut without its mean, windowed, in the corner of a (size, size) array of zeros. */
function windowed({ pixels, rows, columns }, size) {
  const values = new Float64Array(size * size), down = hann(rows), across = hann(columns);
  const mean = pixels.reduce((sum, pixel) => sum + pixel, 0) / pixels.length;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      values[row * size + column] = (pixels[row * columns + column] - mean) * down[row] * across[column];
    }
  }
  return values;
}

function transpose(values, size) {
  for (let row = 0; row < size; row += 1) {
    for (let column = row + 1; column < size; column += 1) {
      const a = row * size + column, b = column * size + row, kept = values[a];
      values[a] = values[b];
      values[b] = kept;
    }
  }
}

/** Log power at every frequency of one or two cuts: (size, size) float32 each, 0 in the middle. */
export function logPowers(cuts, size) {
  const real = windowed(cuts[0], size);
  const imaginary = cuts.length > 1 ? windowed(cuts[1], size) : new Float64Array(size * size);
  const how = plan(size);
  for (const turn of [0, 1]) {
    for (let row = 0; row < size; row += 1) transform(how, real, imaginary, row * size);
    if (turn === 0) [real, imaginary].forEach((values) => transpose(values, size));
  }
  return cuts.map((_, which) => parted(real, imaginary, size, which));
}

/** One real input's log power out of the transform of two, which came as real and imaginary part. */
function parted(real, imaginary, size, which) {
  const power = new Float32Array(size * size), half = size / 2, sign = which === 0 ? 1 : -1;
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      // The transform lies transposed; its mirror holds the conjugate of a real input's.
      const at = column * size + row;
      const other = ((size - column) % size) * size + ((size - row) % size);
      const x = (real[at] + sign * real[other]) / 2, y = (imaginary[at] - sign * imaginary[other]) / 2;
      const to = ((row + half) % size) * size + ((column + half) % size);
      power[to] = Math.log1p(x * x + y * y);
    }
  }
  return power;
}

/** Log power as 0..255 between its median and its largest but for one in 5,000. */
export function steps(power) {
  const [low, high] = quantiles(power, [0.5, 0.9998]);
  const gain = 255 / Math.max(high - low, 1e-6);
  return Uint8ClampedArray.from(power, (value) => (value - low) * gain);
}

function quantiles(values, fractions) {
  let top = 1e-6;
  for (const value of values) top = Math.max(top, value);
  const bins = new Uint32Array(BINS);
  for (const value of values) bins[Math.min(BINS - 1, Math.floor((value / top) * BINS))] += 1;
  let below = 0, bin = -1;
  return fractions.map((fraction) => {
    while (below <= fraction * (values.length - 1) && bin < BINS - 1) below += bins[(bin += 1)];
    return ((bin + 0.5) / BINS) * top;
  });
}
