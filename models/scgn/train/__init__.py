"""Training: what is learned (plan), from what (data), what is kept (state), the loop (run)."""

from __future__ import annotations

from scgn.train.plan import TrainingError, TrainingPlan, named_plan
from scgn.train.run import Sitting, train

__all__ = ["Sitting", "TrainingError", "TrainingPlan", "named_plan", "train"]
