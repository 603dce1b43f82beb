"""The physical generator: structures, optics, detector; frames, both targets, their atoms."""

from __future__ import annotations

from scgn.simulate.batch import SimulatedBatch
from scgn.simulate.generator import simulate
from scgn.simulate.recipe import Recipe
from scgn.simulate.sets import evaluation_set, noise_only_set

__all__ = ["Recipe", "SimulatedBatch", "evaluation_set", "noise_only_set", "simulate"]
