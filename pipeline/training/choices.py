"""The settings of a run's method, and the code that they choose: of the method and of the task."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.closure import PLUMBING
from pipeline.methods import METHODS
from pipeline.settings import merge
from pipeline.tasks import TASKS
from pipeline.training.settings import Run

# What no weights hold, beside the plumbing.
TRAINING_PLUMBING = {**PLUMBING, "pipeline/metrics/bootstrap.py": "intervals around the scores; training takes the scores alone"}


def method_settings(methods: Mapping[str, Mapping[str, Any]], run: Run) -> dict[str, Any]:
    """The settings of a run's method: its own block with the run's overrides laid over it."""
    return merge(methods.get(run.method, {}), run.overrides)


def chosen_code(run: Run, settings: Mapping[str, Any]) -> list[Path]:
    """Files of the run's method, of the methods whose networks it holds or trains first, and of its task; what they import comes on top.

    Args:
        settings: of the method, overrides applied.
    """
    config = METHODS.get(run.method).Config(**settings)
    names = {run.method, config.first_method or run.method, *config.parts}
    return sorted({Path(inspect.getfile(METHODS.get(name))) for name in names} | {Path(str(TASKS.get(run.task).__file__))})
