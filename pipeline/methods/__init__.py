"""One paper per file: config, network, losses, inference rule. Importing this package registers every method."""

from __future__ import annotations

from pipeline.methods.base import METHODS, Method, MethodConfig, Progress, Recipe, create  # isort: skip
from pipeline.methods import (  # isort: skip  # registers them
    avdln, avel, cace_net, ccln, ccln_matching, cmbs, cmpae, cmran, coleaf, dam, han, jomold, ma, psp,
)  # fmt: skip

__all__ = [
    "METHODS", "Method", "MethodConfig", "Progress", "Recipe", "avdln", "avel", "cace_net", "ccln", "ccln_matching", "cmbs", "cmpae",
    "cmran", "coleaf", "create", "dam", "han", "jomold", "ma", "psp",
]  # fmt: skip
