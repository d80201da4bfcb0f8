"""Events of clips -> targets of audio-visual video parsing. Shape letters: N clips, T segments, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.datasets.base import Event, SegmentRule
from pipeline.datasets.segments import occupied
from pipeline.tasks.labels import ClipLabels, IndexedEvents, VideoTargets, check_labels

Modality = Literal["audio", "visual"]
MODALITIES: tuple[Modality, Modality] = ("audio", "visual")  # the order of all that has one entry for each


@dataclass
class ParsingTargets(Tensors):
    """The truth of audio-visual video parsing.

    audio, visual: (B, T, C), bool.
    labels: (B, C), bool; the weak labels of the clips, which need not be the classes of the two.
    """

    audio: Tensor
    visual: Tensor
    labels: Tensor


def row_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    rule: SegmentRule = "half",
) -> ParsingTargets:  # fmt: skip
    """Truth of N annotation rows from their indexed events (modality, label, onset, offset); an ``av`` event counts as both.

    A class is on in a segment that one of its events covers by the rule.

    Args:
        clip_labels: weak labels of the rows; those of their events where None.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    told = clip_labels if clip_labels is not None else [[event["label"] for event in of_row] for of_row in events]
    labels = _multi_hot(told, classes, events)
    tables = torch.zeros(2, len(events), segments, len(classes), dtype=torch.bool)
    for number, of_row in enumerate(events):
        spans = [Event(**event) for event in of_row]
        both = occupied(spans, classes, "av", segments, segment_seconds, rule)
        for table, modality in zip(tables, MODALITIES, strict=True):
            table[number] = torch.from_numpy((both | occupied(spans, classes, modality, segments, segment_seconds, rule)).T)
    return ParsingTargets(audio=tables[0], visual=tables[1], labels=labels)


def video_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    proportions: bool = False, rule: SegmentRule = "half",
) -> VideoTargets:  # fmt: skip
    """Weak labels of N annotation rows: the classes of the clip in any modality, and no time.

    Args:
        clip_labels: classes of the clips; those of their events where None.
        proportions: not of this task.

    Raises:
        InputProblems: labels that are not in ``classes``.
        ValueError: proportions asked for.
    """
    if proportions:
        raise ValueError("video parsing has no labels by proportion")
    told = clip_labels if clip_labels is not None else [[event["label"] for event in of_row] for of_row in events]
    labels = _multi_hot(told, classes, events)
    return VideoTargets(torch.cat([labels, ~labels.any(dim=1, keepdim=True)], dim=1).float())


def _multi_hot(names: Sequence[Sequence[str]], classes: Sequence[str], events: IndexedEvents) -> Tensor:
    """(N, C) bool.

    Raises:
        InputProblems: labels, of the clips or of events, that are not in ``classes``.
    """
    number = {name: position for position, name in enumerate(classes)}
    check_labels({name for of_row in names for name in of_row} | {event["label"] for of_row in events for event in of_row}, classes)
    labels = torch.zeros(len(names), len(classes), dtype=torch.bool)
    for row, of_row in zip(labels, names, strict=True):
        row[[number[name] for name in of_row]] = True
    return labels
