"""The HTTP process: health, status, metrics and calibrations. Killing it never costs a frame."""
