"""One room a task, by its name in params.yaml: what it learns from, how it decides, its metrics, and what its predictions show."""

from __future__ import annotations

from pipeline.registry import Registry
from pipeline.tasks import avel, avvp, cml
from pipeline.tasks.base import Task

TASKS: Registry[Task] = Registry("task")
TASKS.register("avel")(avel)
TASKS.register("avvp")(avvp)
TASKS.register("cml")(cml)

__all__ = ["TASKS", "Task", "avel", "avvp", "cml"]
