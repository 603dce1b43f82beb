/** The WebSocket: asks for one frame at a time, knows the service's clock, comes back when cut. */

import { ServiceClock } from "./clock.js";
import { Frame, Parts, parse } from "./frame.js";

const BACK_OFF_MS = [250, 500, 1000, 2000, 5000];
const REFUSED_MS = 10_000; // after a refusal that only others can mend
const CLOCK_EVERY_MS = 5000;
const SILENT_MS = 6000; // a status comes every second: so long a silence is a dead line
const EXACT_MS = 5000;
const TOO_MANY = 1013, NO_TOKEN = 4401, WRONG_ORIGIN = 4403;
const TOKEN_KEY = "scgn-token";

export class Connection {
  /** handlers: frame(Frame), status(map), token() when one is needed. */
  constructor(url, handlers) {
    this.clock = new ServiceClock();
    this.opened = 0;
    this.refusal = "";
    this.downSinceMs = performance.now();
    this.up = false;
    this.#url = url;
    this.#handlers = handlers;
    setInterval(() => this.#tick(), 1000);
  }

  #url;
  #handlers;
  #socket = null;
  #failures = 0;
  #wish = { want: "nothing" };
  #heardMs = 0;
  #askedClockMs = 0;
  #retry = 0;
  #exact = null;
  #parts = null; // of a large frame that is on its way

  open() {
    clearTimeout(this.#retry);
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#begin();
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    this.#socket = socket;
    this.#heardMs = performance.now();
  }

  /** "frame" of a camera (null: any), "status" alone, or "nothing"; holds until the next call. */
  want(want, source = null) {
    if (this.#wish.want === "nothing") this.#heardMs = performance.now(); // nothing was to be heard
    this.#wish = want === "frame" ? { want, source } : { want };
    this.#say(this.#wish);
  }

  /** The exact pixels of a frame sent to us a moment ago: {header, buffer, start}, or null. */
  exact(frame) {
    const { source, series, frame: index } = frame.header;
    this.#exact?.(null);
    return new Promise((resolve) => {
      this.#exact = resolve;
      if (this.#open) this.#say({ want: "exact", source, series, frame: index });
      else resolve(null);
      setTimeout(() => resolve(null), EXACT_MS);
    });
  }

  /** Keep a token for this tab, and try it. */
  useToken(token) {
    sessionStorage.setItem(TOKEN_KEY, token);
    this.open();
  }

  /** Ask the service for a change; null when it was made, else why not, in words. */
  async post(path, content, keepalive = false) {
    const headers = { "Content-Type": "application/json" };
    const token = sessionStorage.getItem(TOKEN_KEY);
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    try {
      const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(content), keepalive });
      return answer.ok ? null : (await answer.json()).detail;
    } catch {
      return "The service does not answer.";
    }
  }

  get #open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #say(content) {
    if (this.#open) this.#socket.send(JSON.stringify(content));
  }

  #begin() {
    const token = sessionStorage.getItem(TOKEN_KEY);
    if (token !== null) this.#say({ token });
    this.clock.clear();
    this.#askClock();
    if (this.#wish.want !== "nothing") this.#say(this.#wish);
  }

  #askClock() {
    this.#askedClockMs = performance.now();
    this.#say({ want: "clock", t: this.#askedClockMs });
  }

  #hear(data) {
    this.#heardMs = performance.now();
    if (!this.up) this.#letIn();
    if (typeof data !== "string") return this.#hearPixels(data);
    const content = JSON.parse(data);
    if (content.type === "clock") this.clock.add(content.t, this.#heardMs, content.server_ns);
    else if (content.type === "status") this.#handlers.status(content);
    else if (content.type === "exact") this.#exact?.(null);
  }

  #letIn() {
    this.up = true;
    this.opened += 1;
    this.#failures = 0;
    this.refusal = "";
    for (let more = 0; more < 2; more += 1) this.#askClock();
  }

  #hearPixels(buffer) {
    if (this.#parts !== null) {
      if (!this.#parts.add(buffer)) return;
      const whole = this.#parts;
      this.#parts = null;
      return this.#hearFrame(whole);
    }
    const { header, start } = parse(buffer);
    if (header.parts > 1) this.#parts = new Parts(header, buffer, start);
    else this.#hearFrame({ header, buffer, start });
  }

  #hearFrame({ header, buffer, start }) {
    if (header.type === "exact") return this.#exact?.({ header, buffer, start });
    // The next one is asked for before this one is painted: it travels meanwhile.
    if (this.#wish.want === "frame") this.#say(this.#wish);
    this.#handlers.frame(new Frame(header, buffer, start));
  }

  #lost(code, reason) {
    if (this.up) this.downSinceMs = performance.now();
    this.up = false;
    this.#parts = null;
    this.#exact?.(null);
    if (code === NO_TOKEN) {
      const tried = sessionStorage.getItem(TOKEN_KEY) !== null;
      sessionStorage.removeItem(TOKEN_KEY);
      this.refusal = "the service asks for its token";
      return this.#handlers.token(tried);
    }
    const refused = code === TOO_MANY || code === WRONG_ORIGIN;
    this.refusal = refused ? reason : "";
    const waitMs = BACK_OFF_MS[Math.min(this.#failures, BACK_OFF_MS.length - 1)];
    this.#failures += 1;
    this.#retry = setTimeout(() => this.open(), refused ? REFUSED_MS : waitMs);
  }

  #tick() {
    if (!this.#open || this.#wish.want === "nothing") return;
    const now = performance.now();
    if (now - this.#askedClockMs > CLOCK_EVERY_MS) this.#askClock();
    if (now - this.#heardMs > SILENT_MS) this.#cut();
  }

  /** A dead line is not waited for: its closing would take minutes. */
  #cut() {
    const socket = this.#socket;
    socket.onmessage = socket.onclose = null;
    socket.close();
    this.#lost(1006, "");
  }
}
