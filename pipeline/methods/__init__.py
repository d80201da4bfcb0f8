"""One paper per file: config, network, losses, inference rule. Importing this package registers every method."""

from __future__ import annotations

from pipeline.methods.base import (  # isort: skip
    METHODS, AvelTargets, Batch, Labels, LocalizationMethod, Method, MethodConfig, ParsingScores, ParsingTargets, Progress, Recipe, Scores,
    SupervisionConfig, Targets, VideoTargets, create,
)  # fmt: skip
from pipeline.methods import avel, cace_net, cmbs, cmran, han, jomold, psp  # registers them

__all__ = [
    "METHODS", "AvelTargets", "Batch", "Labels", "LocalizationMethod", "Method", "MethodConfig", "ParsingScores",
    "ParsingTargets", "Progress", "Recipe", "Scores", "SupervisionConfig", "Targets", "VideoTargets", "avel", "cace_net", "cmbs", "cmran",
    "create", "han", "jomold", "psp",
]  # fmt: skip
