"""Audio-visual event localization: from raw clips to features, trained networks and tables.

The names of ``__all__`` are for use from Python (docs/python.md). Each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "Batch": ("pipeline.batch", "Batch"),
    "FeatureStore": ("pipeline.features.store", "FeatureStore"),
    "METHODS": ("pipeline.methods", "METHODS"),
    "TASKS": ("pipeline.tasks", "TASKS"),
    "create_encoder": ("pipeline.encoders", "create"),
    "create_method": ("pipeline.methods", "create"),
    "load_exported": ("pipeline.predict", "load_exported"),
    "load_run": ("pipeline.predict", "load_run"),
    "load_seed": ("pipeline.training.trained", "load_seed"),
    "load_split": ("pipeline.training.data", "load_split"),
    "parsing_scores": ("pipeline.metrics.parsing", "parsing_scores"),
    "predict_split": ("pipeline.training.predictions", "predictions"),
    "read_index": ("pipeline.datasets", "read_index"),
    "score_split": ("pipeline.training.predictions", "score_split"),
    "segment_accuracy": ("pipeline.metrics.segments", "segment_accuracy"),
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("pipeline.machine").project_version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
