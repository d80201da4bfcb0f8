"""Targets of audio-visual event localization from events. Class index C (= num_classes) is the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.datasets.base import SegmentRule
from pipeline.datasets.segments import ROUNDING, least_cover
from pipeline.errors import InputProblems
from pipeline.tasks.labels import ClipLabels, ClipSeconds, IndexedEvents, VideoTargets, check_labels

ClipEvents = Sequence[tuple[int, float, float]]  # (class index, onset, offset) in seconds from the start of the clip


@dataclass
class AvelTargets(Tensors):
    """The truth of audio-visual event localization; class index C is the background.

    segments: (B, T), int64 in [0, C]; one event class, or background, per segment.
    video: (B,), int64 in [0, C]; the class of the clip's event, C for a clip without one.
    """

    segments: Tensor
    video: Tensor


def targets_of_events(
    events: Sequence[ClipEvents], segments: int, num_classes: int, segment_seconds: float = 1.0, rule: SegmentRule = "half"
) -> AvelTargets:
    """Label every segment from the clip's events.

    A segment belongs to an event that covers it by the rule (:mod:`pipeline.datasets.segments`); of two such events, to the one covering
    more of it, or the first if equal. The clip's class is that of most segments (the smallest index if equal), or C if no segment belongs
    to an event. Events are cut off after the last segment.

    Args:
        events: events of each clip; none for a background clip. An event of length 0 (AVE has one) covers nothing.
        segments: T.
        num_classes: C.
        segment_seconds: length of a segment.
        rule: when an event covers a segment.

    Raises:
        InputProblems: classes outside [0, C), negative onsets, offsets before onsets; all at once, with the clip's position in ``events``.
    """
    problems = [problem for clip, spans in enumerate(events) for problem in _event_problems(clip, spans, num_classes)]
    if problems:
        raise InputProblems("events", problems)
    labels = np.full((len(events), segments), num_classes, dtype=np.int64)
    for clip, spans in enumerate(events):
        _label(labels[clip], spans, segment_seconds, rule)
    counts = np.stack([np.bincount(row, minlength=num_classes + 1)[:num_classes] for row in labels]) if len(labels) else labels[:, :0]
    video = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), num_classes) if len(labels) else labels[:, 0]
    return AvelTargets(segments=torch.from_numpy(labels), video=torch.from_numpy(video))


def _event_problems(clip: int, spans: ClipEvents, num_classes: int) -> list[str]:
    problems = []
    for label, onset, offset in spans:
        if not 0 <= label < num_classes:
            problems.append(f"clip {clip}: class index {label} is outside 0..{num_classes - 1}; add the class to the class list")
        if not 0 <= onset <= offset:  # NaN fails too
            problems.append(f"clip {clip}: event from {onset} s to {offset} s; 0 <= onset <= offset is needed")
    return problems


def _label(row: NDArray[np.int64], spans: ClipEvents, segment_seconds: float, rule: SegmentRule) -> None:
    """Write the events' classes into one clip's labels (T,), initially all background."""
    starts = np.arange(len(row)) * segment_seconds
    best = np.full(len(row), least_cover(rule, segment_seconds))
    for label, onset, offset in spans:
        overlap = np.minimum(starts + segment_seconds, offset) - np.maximum(starts, onset)
        better = overlap > best
        row[better] = label
        best[better] = overlap[better] + ROUNDING  # so a later event of equal overlap does not replace it


def row_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    rule: SegmentRule = "half", seconds: ClipSeconds = None,
) -> AvelTargets:  # fmt: skip
    """Targets of N annotation rows from their indexed events (modality, label, onset, offset); only audio-visual events count.

    Args:
        clip_labels: not used, because classes of clips have no segments.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    return targets_of_events(_spans(events, classes), segments, len(classes), segment_seconds, rule)


def video_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    proportions: bool = False, rule: SegmentRule = "half",
) -> VideoTargets:  # fmt: skip
    """Weak labels of N annotation rows: the classes of their audio-visual events, without times.

    An event counts if any part of it lies within the clip's ``segments``. Annotation rows without an event are background clips, used as
    negatives.

    Args:
        clip_labels: classes of the clips; used where no event of any modality is known (AVE's row without one, LLP's training).
        proportions: instead, the share of segments of each label (PSP's ``prob_label``), which leaks the events' durations.

    Raises:
        InputProblems: labels that are not in ``classes``, or invalid spans.
    """
    spans = _spans(events, classes)
    of_segments = targets_of_events(spans, segments, len(classes), segment_seconds, rule).segments
    if proportions:
        return VideoTargets(torch.nn.functional.one_hot(of_segments, len(classes) + 1).float().mean(dim=1))
    labels = torch.zeros(len(spans), len(classes) + 1)
    told = clip_labels if clip_labels is not None else [()] * len(spans)
    known = _numbers([() if len(of_row) else names for of_row, names in zip(events, told, strict=True)], classes)
    for row, of_row, named in zip(labels, spans, known, strict=True):
        present = {label for label, onset, offset in of_row if onset < min(offset, segments * segment_seconds)} | set(named)
        row[sorted(present) or [len(classes)]] = 1
    return VideoTargets(labels)


def _spans(events: IndexedEvents, classes: Sequence[str]) -> list[ClipEvents]:
    """The audio-visual events of each annotation row, with class numbers."""
    numbers = _numbers([[event["label"] for event in of_row] for of_row in events], classes)
    return [
        [(number, event["onset"], event["offset"]) for number, event in zip(of_row, spans, strict=True) if event["modality"] == "av"]
        for of_row, spans in zip(numbers, events, strict=True)
    ]


def _numbers(names: Sequence[Sequence[str]], classes: Sequence[str]) -> list[list[int]]:
    number = {name: position for position, name in enumerate(classes)}
    check_labels((name for of_row in names for name in of_row), classes)
    return [[number[name] for name in of_row] for of_row in names]
