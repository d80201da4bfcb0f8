"""Truth and answer of one clip as spans with one label each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pipeline.tasks.tracks import TrackName

Span = list[Any]
Mark = tuple[int, str] | None


@dataclass(frozen=True)
class Lane:
    """One track of a clip of T segments.

    truth, spans: [start, end, label, kind], start and end in segments, the end exclusive. Kinds: ``true`` in the truth; in an answer
        ``right``, ``wrong`` (an event of another class), ``false`` (no event there), ``missed`` (none found there; the label is the true
        one).
    scores: T numbers in [0, 1].
    """

    track: TrackName
    truth: list[Span]
    spans: list[Span]
    scores: list[float]


def spans_of(marks: Sequence[Mark]) -> list[Span]:
    """Join equal neighbours: [(2, "right"), (2, "right"), None] -> [[0, 2, 2, "right"]]."""
    spans: list[Span] = []
    for mark, group in groupby(enumerate(marks), key=lambda entry: entry[1]):
        if mark is not None:
            positions = [position for position, _ in group]
            spans.append([positions[0], positions[-1] + 1, *mark])
    return spans
