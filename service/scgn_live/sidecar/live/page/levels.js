/** Black and white levels: found from the frame, or held by hand. */

const FRACTIONS = [0.005, 0.995];
const AXIS_FRACTIONS = [0.0005, 0.9995];
const SAMPLES_MAX = 1_000_000;
const FOLLOW_MS = 300; // time constant: a flicker is smoothed, a new scene is followed at once
const JUMP = 1.0; // of the window: farther away is another scene

/** How often each 16-bit value occurs; large frames are sampled. */
export class Counts {
  of = new Uint32Array(65536);
  total = 0;

  take(channel) {
    const { pixels } = channel;
    const stride = Math.max(1, Math.ceil(pixels.length / SAMPLES_MAX));
    this.of.fill(0);
    for (let at = 0; at < pixels.length; at += stride) this.of[pixels[at]] += 1;
    this.total = Math.ceil(pixels.length / stride);
    this.channel = channel;
  }

  /** The counts below which these shares of the pixels lie, ascending. */
  quantiles(fractions) {
    const found = [];
    let below = 0, pixel = -1;
    for (const fraction of fractions) {
      const rank = fraction * (this.total - 1);
      while (below <= rank && pixel < 65535) below += this.of[(pixel += 1)];
      found.push(this.channel.offset + this.channel.scale * Math.max(0, pixel));
    }
    return found;
  }
}

/** The levels of one channel, in counts. */
export class Levels {
  low = 0;
  high = 1;
  auto = true;
  counts = new Counts();
  axis = [0, 1]; // of the histogram
  extremes = [0, 1]; // without the few pixels that are hot or dead
  #known = false;
  #followedMs = 0;

  /** Another frame: count its pixels and, unless held, follow it. */
  follow(channel, nowMs) {
    this.counts.take(channel);
    const [axisLow, low, high, axisHigh] = this.counts.quantiles(
      [AXIS_FRACTIONS[0], ...FRACTIONS, AXIS_FRACTIONS[1]],
    );
    const share = 1 - Math.exp(-(nowMs - this.#followedMs) / FOLLOW_MS);
    this.#followedMs = nowMs;
    if (this.auto) this.#move(low, Math.max(high, low + channel.scale), share);
    this.extremes = [axisLow, axisHigh];
    this.#moveAxis(axisLow, axisHigh);
  }

  /** Hold these levels; the white one stays above the black one. */
  hold(low, high) {
    this.auto = false;
    this.low = low;
    this.high = Math.max(high, low + 1e-9 * Math.max(1, Math.abs(low)));
  }

  /** Follow the frames again, from the next one on. */
  reset() {
    this.auto = true;
    this.#known = false;
  }

  #move(low, high, share) {
    const window = Math.max(high - low, this.high - this.low);
    const far = Math.abs(low - this.low) > JUMP * window || Math.abs(high - this.high) > JUMP * window;
    const step = this.#known && !far ? share : 1;
    this.#known = true;
    this.low += step * (low - this.low);
    this.high += step * (high - this.high);
  }

  /** The histogram's axis holds nearly all pixels and both levels; it moves rarely. */
  #moveAxis(low, high) {
    const margin = 0.12 * Math.max(high - low, 1e-9);
    const wanted = [Math.min(low - margin, this.low), Math.max(high + margin, this.high)];
    const span = wanted[1] - wanted[0];
    const off = Math.max(...wanted.map((end, side) => Math.abs(end - this.axis[side])));
    if (off > 0.1 * span) this.axis = wanted;
  }
}
