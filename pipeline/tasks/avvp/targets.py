"""Targets of audio-visual video parsing from events. Shape letters: N clips, T segments, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.datasets.base import Event, SegmentRule
from pipeline.datasets.segments import occupied
from pipeline.tasks.labels import ClipLabels, ClipSeconds, IndexedEvents, VideoTargets, check_labels

Modality = Literal["audio", "visual"]
MODALITIES: tuple[Modality, Modality] = ("audio", "visual")  # the order wherever there is one entry per modality


@dataclass
class ParsingTargets(Tensors):
    """The truth of audio-visual video parsing.

    audio, visual: (B, T, C), bool.
    labels: (B, C), bool; the clips' weak labels, which may differ from the classes in ``audio`` and ``visual``.
    """

    audio: Tensor
    visual: Tensor
    labels: Tensor


def row_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    rule: SegmentRule = "half", seconds: ClipSeconds = None,
) -> ParsingTargets:  # fmt: skip
    """Targets of N annotation rows from their indexed events (modality, label, onset, offset).

    A class is active in a segment if one of its events covers the segment by the rule. An ``av`` event counts in both modalities.

    Args:
        clip_labels: weak labels of the annotation rows; None: those of their events.

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
    """Weak labels of N annotation rows: the clip's classes in any modality, without times.

    Args:
        clip_labels: classes of the clips; None: those of their events.
        proportions: must be False; this task has no such labels.

    Raises:
        InputProblems: labels that are not in ``classes``.
        ValueError: ``proportions`` is True.
    """
    if proportions:
        raise ValueError("video parsing has no labels by proportion")
    told = clip_labels if clip_labels is not None else [[event["label"] for event in of_row] for of_row in events]
    labels = _multi_hot(told, classes, events)
    return VideoTargets(torch.cat([labels, ~labels.any(dim=1, keepdim=True)], dim=1).float())


def _multi_hot(names: Sequence[Sequence[str]], classes: Sequence[str], events: IndexedEvents) -> Tensor:
    """Class names as multi-hot vectors (N, C), bool.

    Raises:
        InputProblems: labels of clips or events that are not in ``classes``.
    """
    number = {name: position for position, name in enumerate(classes)}
    check_labels({name for of_row in names for name in of_row} | {event["label"] for of_row in events for event in of_row}, classes)
    labels = torch.zeros(len(names), len(classes), dtype=torch.bool)
    for row, of_row in zip(labels, names, strict=True):
        row[[number[name] for name in of_row]] = True
    return labels
