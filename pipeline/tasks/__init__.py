"""Labels -> targets, scores -> predictions -> metrics: one module per task, by its name in params.yaml.

Each module offers ``HEADLINE`` (the key of the number that picks a checkpoint and stands in the table, higher is better), ``row_targets``
(annotation rows -> targets), ``decide`` (scores -> labels), ``score`` (labels and targets -> metrics), ``table`` (one line per segment),
``clip_scores`` (the table's lines -> the headline of each annotation row, what rows are compared by), what files and pictures of
predictions are made of: ``tracks`` (scores of one clip -> :class:`pipeline.tasks.tracks.Tracks`) and ``table_tracks`` (a clip's lines of
the table -> its tracks and its truth); with weakly supervised methods also ``video_targets`` (annotation rows -> what the training split
tells them). ``cml``, whose answers are starts of windows and no events of a clip, has no tracks, and a table of one line per question.
"""

from __future__ import annotations

from types import ModuleType

from pipeline.registry import Registry
from pipeline.tasks import avel, avvp, cml

Task = ModuleType
TASKS: Registry[Task] = Registry("task")
TASKS.register("avel")(avel)
TASKS.register("avvp")(avvp)
TASKS.register("cml")(cml)

__all__ = ["TASKS", "Task", "avel", "avvp", "cml"]
