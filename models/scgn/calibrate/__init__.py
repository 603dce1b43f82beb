"""Noise calibration: what a camera's own frames tell of its references and its noise."""
