"""What the index says of clips, what a training split tells of them, and the weak labels that several tasks share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from pipeline.batch import Tensors
from pipeline.errors import InputProblems

IndexedEvents = Sequence[Sequence[Mapping[str, Any]]]  # by annotation row: modality, label, onset, offset
ClipLabels = Sequence[Sequence[str]] | None  # by annotation row: the classes of its clip; None: those of its events
Labels = Literal["segments", "video", "proportions"]  # what the training split tells: all, or one of two kinds of VideoTargets


@dataclass
class VideoTargets(Tensors):
    """What weak supervision tells of B clips: no segment, no time.

    labels: (B, C+1), float, multi-hot: 1 for each class that the clip holds; 1 at C, and nowhere else, for a clip without an event. With
        labels ``proportions``: the share of the clip's segments of each class and of the background, summing to 1.
    rows: (B,), int64, the clips' annotation rows, for methods that keep something of every training clip; None where nobody tells.
    """

    labels: Tensor
    rows: Tensor | None = None


def check_labels(used: Iterable[str], classes: Sequence[str]) -> None:
    """Raise InputProblems for labels that are not in ``classes``."""
    if unknown := sorted(set(used) - set(classes)):
        raise InputProblems("events", [f"the label {label!r} is not in the class list {', '.join(classes)}" for label in unknown])
