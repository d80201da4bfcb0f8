"""One folder per task: targets, scores, decision, metrics and views of predictions.

A task is registered under its name in params.yaml.
"""

from __future__ import annotations

from pipeline.registry import Registry
from pipeline.tasks import avel, avvp, avvp_av, cml, dave
from pipeline.tasks.base import Task

TASKS: Registry[Task] = Registry("task")
TASKS.register("avel")(avel)
TASKS.register("avvp")(avvp)
TASKS.register("avvp_av")(avvp_av)
TASKS.register("cml")(cml)
TASKS.register("dave")(dave)

__all__ = ["TASKS", "Task", "avel", "avvp", "avvp_av", "cml", "dave"]
