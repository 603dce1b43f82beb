/** Power spectra beside the page's own thread: painting never waits for them. */

import { logPowers, steps } from "./spectrum.js";

self.onmessage = ({ data: { names, cuts, size } }) => {
  const levels = logPowers(cuts, size).map(steps);
  self.postMessage({ names, size, levels }, levels.map(({ buffer }) => buffer));
};
