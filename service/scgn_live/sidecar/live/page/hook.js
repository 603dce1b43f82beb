/** window.scgnLive: what the page shows, for tests and for nothing else. Reading changes nothing. */

export function addHook(view) {
  const { painter, connection } = view;
  window.scgnLive = Object.freeze({
    /** The painted frame and its age when it was painted; null before the first. */
    painted() {
      if (painter.frame === null) return null;
      const { source, series, frame, t_received_ns } = painter.frame.header;
      return { source, series, frame, ageMs: painter.ageMs, t_received_ns };
    },

    /** {channel: {low, high, auto}}, counts: the levels in use. */
    levels() {
      const inUse = [...painter.levels.keys()].map((name) => [name, painter.levelsOf(name)]);
      return Object.fromEntries(inUse.map(([name, { low, high, auto }]) => [name, { low, high, auto }]));
    },

    /** [red, green, blue] of a frame pixel as it is on the canvas; null when it is not in sight. */
    pixel(channel, row, column) {
      for (const panel of painter.shown) {
        const colour = panel.colourAt(channel, row, column, painter.viewport);
        if (colour !== null) return colour;
      }
      return null;
    },

    /** The last paints, oldest first: [{source, series, frame, ageMs, atMs}]. */
    history() {
      return painter.history.map((paint) => ({ ...paint }));
    },

    get counters() {
      const { spectrum } = view;
      return { ...painter.counters, connections: connection.opened, spectra: spectrum.made };
    },

    /** Half of the shortest exchange about the clock, ms: ages are not surer than that. */
    get clockUncertaintyMs() {
      return connection.clock.uncertaintyMs;
    },
  });
}
