"""Judging denoisers: peers by name, the same frames and metrics for all, one table, pictures."""

from __future__ import annotations


class EvaluationError(ValueError):
    """An evaluation cannot be done as asked; the message says what was expected and what came."""
