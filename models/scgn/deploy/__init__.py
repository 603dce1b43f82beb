"""The network as it is deployed: one real-valued graph from a camera's bytes to denoised counts."""

from scgn.deploy.graph import DeployGraph, deploy
from scgn.deploy.recipe import DeployError, DeployRecipe

__all__ = ["DeployError", "DeployGraph", "DeployRecipe", "deploy"]
