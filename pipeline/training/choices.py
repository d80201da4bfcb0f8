"""The settings of a run's method, and the code of method and task that a run chooses."""

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

# Modules that cannot change the weights.
TRAINING_PLUMBING = {**PLUMBING, "pipeline/metrics/bootstrap.py": "intervals around the scores; training takes the scores alone"}


def method_settings(methods: Mapping[str, Mapping[str, Any]], run: Run) -> dict[str, Any]:
    """Lay the run's overrides over the settings of its method."""
    return merge(methods.get(run.method, {}), run.overrides)


def chosen_code(run: Run, settings: Mapping[str, Any]) -> list[Path]:
    """List the files of a run's task and methods, without what they import.

    The methods are the run's own and those whose networks it contains or trains first.

    Args:
        settings: of the method, overrides applied.
    """
    config = METHODS.get(run.method).Config(**settings)
    names = {run.method, config.first_method or run.method, *config.parts}
    return sorted({Path(inspect.getfile(METHODS.get(name))) for name in names} | {Path(str(TASKS.get(run.task).__file__))})
