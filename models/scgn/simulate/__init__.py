"""The physical generator: structures, optics, detector; frames with both targets and their atoms."""

from __future__ import annotations

from scgn.simulate.batch import SimulatedBatch
from scgn.simulate.generator import simulate
from scgn.simulate.recipe import Recipe

__all__ = ["Recipe", "SimulatedBatch", "simulate"]
