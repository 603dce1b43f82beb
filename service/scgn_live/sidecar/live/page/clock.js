/** The service's clock, read from afar: what it is now, and how sure that is. */

const KEPT = 8;

/** Unix nanoseconds as text -> milliseconds, to a microsecond. */
export function msOf(nanoseconds) {
  return Number(BigInt(nanoseconds) / 1000n) / 1000;
}

export class ServiceClock {
  #exchanges = [];

  /** Forget all: another connection, perhaps after a night's sleep. */
  clear() {
    this.#exchanges = [];
  }

  /** One exchange: asked and answered by our clock (ms), the service's time between (Unix ns). */
  add(askedMs, answeredMs, serverNs) {
    const offsetMs = msOf(serverNs) - (askedMs + answeredMs) / 2;
    this.#exchanges.push({ tripMs: answeredMs - askedMs, offsetMs });
    this.#exchanges.splice(0, this.#exchanges.length - KEPT);
  }

  get known() {
    return this.#exchanges.length > 0;
  }

  /** The exchange with the shortest trip: the least could go wrong with it. */
  get #best() {
    return this.#exchanges.reduce((best, next) => (next.tripMs < best.tripMs ? next : best));
  }

  /** At most so far off, ms, by what the trip took. */
  get uncertaintyMs() {
    return this.known ? this.#best.tripMs / 2 : NaN;
  }

  /** Unix ms at the service, NaN while unknown. */
  nowMs() {
    return this.known ? performance.now() + this.#best.offsetMs : NaN;
  }
}
