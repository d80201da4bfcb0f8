"""Targets of cross-modality localization from events, and the questions that clips pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.datasets.base import Event, SegmentRule
from pipeline.datasets.segments import occupied
from pipeline.tasks.labels import ClipLabels, ClipSeconds, IndexedEvents, VideoTargets, check_labels


@dataclass
class MatchingTargets(Tensors):
    """The truth of cross-modality localization.

    event: (B, T), bool; the segments whose audio and visual content belong together.
    labels: (B, C), float, multi-hot: the classes of the clip's events; zero for a clip without one.
    """

    event: Tensor
    labels: Tensor


class Questions(NamedTuple):
    """The questions of N clips.

    start, length: of the event, (N,), int.
    segments: of the clip, (N,), int.
    asked: (N,), bool; where False, the other values are meaningless.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    segments: NDArray[np.int64]
    asked: NDArray[np.bool_]


def row_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    rule: SegmentRule = "half", seconds: ClipSeconds = None,
) -> MatchingTargets:  # fmt: skip
    """Targets of N annotation rows from their audio-visual events.

    A segment belongs to an event that covers it by the rule.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    check_labels((event["label"] for of_row in events for event in of_row), classes)
    occupation = np.zeros((len(events), len(classes), segments), dtype=bool)
    for row, of_row in enumerate(events):
        occupation[row] = occupied([Event(**event) for event in of_row], classes, "av", segments, segment_seconds, rule)
    return MatchingTargets(torch.from_numpy(occupation.any(axis=1)), torch.from_numpy(occupation.any(axis=2)).float())


def video_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    proportions: bool = False, rule: SegmentRule = "half",
) -> VideoTargets:  # fmt: skip
    """Raise ValueError: the task has no weak labels."""
    raise ValueError("cross-modality localization has no weak labels")


def questions(truth: MatchingTargets, mask: Tensor) -> Questions:
    """The questions of the clips of a split; ``mask`` (N, T) bool marks valid segments."""
    event = (truth.event & mask).numpy()
    start, length, segments = event.argmax(axis=1), event.sum(axis=1), mask.numpy().sum(axis=1)
    end = event.shape[1] - event[:, ::-1].argmax(axis=1)
    unbroken = end - start == length
    return Questions(start, length, segments, unbroken & (length > 1) & (length < segments))
