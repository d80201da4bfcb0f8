"""Description of a separate table of a task's scores, by level, counting rule and class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class ScoreGrid:
    """Location of the scores in a task's metrics, and their names.

    title, note: of the table.
    class_title, class_note: of the table by class.
    levels, scores: a metric's key is the rule's prefix followed by ``level/score``.
    rules: rule name -> key prefix. The first rule's prefix is empty; the metrics' ``intervals`` hold its bounds.
    trivial: key in the metrics' ``trivial`` -> name of the table line; scored by the first two rules.
    class_scores: scores with a value per class in the metrics' ``classes``.
    differences: (lines, lines) -> ``mean``, ``low``, ``high`` of first minus second by key, first rule; None without common clips.
    """

    title: str
    note: str
    class_title: str
    class_note: str
    levels: tuple[str, ...]
    scores: tuple[str, ...]
    rules: Mapping[str, str]
    trivial: Mapping[str, str]
    class_scores: tuple[str, ...]
    differences: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame | None]
