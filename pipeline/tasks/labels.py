"""Types of indexed events and labels, and the weak labels shared by several tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from pipeline.batch import Tensors
from pipeline.errors import InputProblems

IndexedEvents = Sequence[Sequence[Mapping[str, Any]]]  # by annotation row: modality, label, onset, offset
ClipLabels = Sequence[Sequence[str]] | None  # by annotation row: the classes of its clip; None: those of its events
ClipSeconds = Sequence[float] | None  # by annotation row: the length of its clip; None: that of the grid of segments
Labels = Literal["segments", "video", "proportions"]  # training labels: full targets, or one of two kinds of VideoTargets


@dataclass
class VideoTargets(Tensors):
    """Weak labels of B clips, without segments or times.

    labels: (B, C+1), float, multi-hot: 1 for each class in the clip; 1 only at C for a clip without an event. With labels ``proportions``:
        the share of the clip's segments of each class and of the background, summing to 1.
    rows: (B,), int64, the clips' annotation rows, for methods that store something for every training clip; None if unknown.
    """

    labels: Tensor
    rows: Tensor | None = None


def check_labels(used: Iterable[str], classes: Sequence[str]) -> None:
    """Raise InputProblems for labels that are not in ``classes``."""
    if unknown := sorted(set(used) - set(classes)):
        raise InputProblems("events", [f"the label {label!r} is not in the class list {', '.join(classes)}" for label in unknown])
