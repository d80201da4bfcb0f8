"""Scores of a task that fill a table of their own: by level, by the rule they are counted by, and class by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class ScoreGrid:
    """Where the scores stand in a task's metrics, and how they are called.

    title, note: of the table; class_title, class_note: of the one class by class.
    levels, scores: a metric's key is ``level/score``, with the rule's prefix before it.
    rules: by name the prefix; that of the first is empty: ``intervals`` of the metrics holds its bounds.
    trivial: by key of ``trivial`` in the metrics the line's name; scored by the first two rules.
    class_scores: those of which ``classes`` of the metrics holds a value per class.
    differences: (lines, lines) -> ``mean``, ``low``, ``high`` of first minus second by key, first rule; None without a common clip.
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
