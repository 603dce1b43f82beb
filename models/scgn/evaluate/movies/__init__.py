"""Denoisers that remember, judged on movies: real ones without truth, staged ones with it."""

from __future__ import annotations

from scgn.evaluate.movies.judge import judge_scenario
from scgn.evaluate.movies.real import judge_movie

__all__ = ["judge_movie", "judge_scenario"]
