"""One paper per file: config, network, losses, inference rule. Importing this package registers every method."""

from __future__ import annotations

from pipeline.methods.base import (  # isort: skip
    METHODS, AvelTargets, Batch, Labels, LocalizationMethod, MatchingMethod, MatchingScores, MatchingTargets, Method, MethodConfig,
    ParsingScores, ParsingTargets, Progress, Recipe, Scores, SupervisionConfig, Targets, VideoTargets, create,
)  # fmt: skip
from pipeline.methods import (  # isort: skip  # registers them
    avdln, avel, cace_net, ccln, ccln_matching, cmbs, cmpae, cmran, coleaf, dam, han, jomold, ma, psp,
)  # fmt: skip

__all__ = [
    "METHODS", "AvelTargets", "Batch", "Labels", "LocalizationMethod", "MatchingMethod", "MatchingScores", "MatchingTargets", "Method",
    "MethodConfig", "ParsingScores", "ParsingTargets", "Progress", "Recipe", "Scores", "SupervisionConfig", "Targets", "VideoTargets",
    "avdln", "avel", "cace_net", "ccln", "ccln_matching", "cmbs", "cmpae", "cmran", "coleaf", "create", "dam", "han", "jomold", "ma", "psp",
]  # fmt: skip
