"""Targets of dense audio-visual event localization: the annotated spans themselves, in seconds.

Shape letters: N annotation rows, E events of the row that has most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.datasets.base import SegmentRule
from pipeline.metrics.detection import Spans, distinct
from pipeline.tasks.labels import ClipLabels, ClipSeconds, IndexedEvents, VideoTargets, check_labels


@dataclass
class EventTargets(Tensors):
    """The truth of dense localization; events may overlap, also those of one class.

    spans: (B, E, 2), float32, start and end in seconds; 0 in padding.
    labels: (B, E), int64 in [0, C); -1 in padding.
    seconds: (B,), float32, length of the clip.
    """

    spans: Tensor
    labels: Tensor
    seconds: Tensor


def row_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    rule: SegmentRule = "half", seconds: ClipSeconds = None,
) -> EventTargets:  # fmt: skip
    """Targets of N annotation rows from their indexed events (modality, label, onset, offset); only audio-visual events count.

    An event is cut off at the end of its clip and of the ``segments``; what has no length then is left out, as is an event given twice.

    Args:
        clip_labels, rule: not used, because spans need neither.
        seconds: length of each clip; None: all fill their ``segments``.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    check_labels((event["label"] for of_row in events for event in of_row), classes)
    number = {name: position for position, name in enumerate(classes)}
    window = segments * segment_seconds
    lengths = [window] * len(events) if seconds is None else [min(length, window) for length in seconds]
    found = []
    for of_row, length in zip(events, lengths, strict=True):
        heard = [event for event in of_row if event["modality"] == "av"]
        cut = np.array([(event["onset"], event["offset"]) for event in heard], dtype=np.float32).reshape(-1, 2).clip(0, length)
        labels = np.array([number[event["label"]] for event in heard], dtype=np.int64)
        long = cut[:, 1] > cut[:, 0]
        found.append(distinct(Spans(cut[long], labels[long])))
    most = max((len(one.labels) for one in found), default=0)
    spans, padded = torch.zeros(len(found), most, 2), torch.full((len(found), most), -1)
    for row, one in enumerate(found):
        spans[row, : len(one.labels)], padded[row, : len(one.labels)] = torch.from_numpy(one.spans), torch.from_numpy(one.labels)
    return EventTargets(spans, padded, torch.tensor(lengths, dtype=torch.float32))


def video_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    proportions: bool = False, rule: SegmentRule = "half",
) -> VideoTargets:  # fmt: skip
    """Weak labels of N annotation rows: the classes of their audio-visual events, without times.

    Args:
        clip_labels: classes of the clips; used where no event of any modality is known.
        proportions: must be False; this task has no such labels.

    Raises:
        InputProblems: labels that are not in ``classes``.
        ValueError: ``proportions`` is True.
    """
    if proportions:
        raise ValueError("dense localization has no labels by proportion")
    told = clip_labels if clip_labels is not None else [()] * len(events)
    of_rows = [
        {event["label"] for event in of_row if event["modality"] == "av"} if len(of_row) else set(names)
        for of_row, names in zip(events, told, strict=True)
    ]
    check_labels([*(name for names in of_rows for name in names), *(event["label"] for of_row in events for event in of_row)], classes)
    labels = torch.tensor([[name in names for name in classes] for names in of_rows]).reshape(len(of_rows), len(classes))
    return VideoTargets(torch.cat([labels, ~labels.any(dim=1, keepdim=True)], dim=1).float())
