"""Checks of ``methods`` in params.yaml beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.methods import METHODS
from pipeline.schema import block, schema_problems, unknown


def problems(params: Mapping[str, Any]) -> list[str]:
    """Unknown method names and invalid method settings."""
    found: list[str] = []
    for name, settings in block(params, "methods").items():
        path = f"methods.{name}"
        found += unknown(path, name, METHODS) or list(schema_problems(METHODS.get(name).Config, settings or {}, path))
    return found
