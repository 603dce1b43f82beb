"""Movies to learn from and to judge by: a scene, its motion, local events, one camera a movie."""

from __future__ import annotations

from scgn.simulate.movies.draw import draw_movies
from scgn.simulate.movies.recipe import MovieRecipe
from scgn.simulate.movies.series import Event, Movies

__all__ = ["Event", "MovieRecipe", "Movies", "draw_movies"]
