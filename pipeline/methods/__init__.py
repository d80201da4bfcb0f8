"""One paper per file: config, network, losses, inference rule. Importing this package registers every method."""

from __future__ import annotations

from pipeline.methods.base import METHODS, AvelTargets, Batch, Method, MethodConfig, Progress, Recipe, Scores, create  # isort: skip
from pipeline.methods import avel, cace_net  # registers them

__all__ = [
    "METHODS", "AvelTargets", "Batch", "Method", "MethodConfig", "Progress", "Recipe", "Scores", "avel", "cace_net", "create",
]  # fmt: skip
