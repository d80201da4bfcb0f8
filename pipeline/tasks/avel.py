"""Audio-visual event localization: one event class, or background, for every segment of a clip.

Class index C (= num_classes) is the background throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.base import SegmentRule
from pipeline.datasets.segments import ROUNDING, least_cover
from pipeline.errors import InputProblems
from pipeline.methods.base import AvelTargets, Scores, VideoTargets
from pipeline.metrics.segments import confusion, f1_score, segment_accuracy
from pipeline.tasks.tracks import Perceived, Tracks

HEADLINE = "accuracy"
EVENT_THRESHOLD = 0.5

ClipEvents = Sequence[tuple[int, float, float]]  # (class index, onset, offset) in seconds from the start of the clip


def targets(
    events: Sequence[ClipEvents], segments: int, num_classes: int, segment_seconds: float = 1.0, rule: SegmentRule = "half"
) -> AvelTargets:
    """Events of each clip -> one label per segment.

    A segment belongs to an event that covers it by the rule (:mod:`pipeline.datasets.segments`); to the one covering more of it where two
    do, to the first of equals. The clip's class is the one of most segments (the smallest index of equals), C where no segment belongs to
    an event. What lies beyond the last segment is cut off.

    Args:
        events: per clip, its events; none for a background clip. An event may have length 0 (AVE has one): it covers nothing.
        segments: T.
        num_classes: C.
        segment_seconds: length of a segment.

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
    """Write the events' classes into one clip's labels (T,), background before."""
    starts = np.arange(len(row)) * segment_seconds
    best = np.full(len(row), least_cover(rule, segment_seconds))
    for label, onset, offset in spans:
        overlap = np.minimum(starts + segment_seconds, offset) - np.maximum(starts, onset)
        better = overlap > best
        row[better] = label
        best[better] = overlap[better] + ROUNDING  # an equal later one does not take over


def decide(scores: Scores, mask: Tensor) -> Tensor:
    """The label of every segment.

    Where a method has an event and a clip-level head, the two-head rule: the clip's most probable class (of a weakly supervised method, it
    may be the background) where event > 0.5 (strictly), else background. Otherwise the most probable of the C+1 segment labels. Padded
    segments are background.

    Returns:
        (B, T), int64 in [0, C].
    """
    background = scores.segments.shape[-1] - 1
    if scores.event is not None and scores.classes is not None:
        classes = scores.classes.argmax(dim=-1, keepdim=True).expand_as(scores.event)
        labels = classes.masked_fill(~(scores.event > EVENT_THRESHOLD), background)
    else:
        labels = scores.segments.argmax(dim=-1)
    return labels.masked_fill(~mask, background)


def evaluate(pred: Any, true: Any, mask: Any, num_classes: int, segment_seconds: float = 1.0) -> dict[str, Any]:
    """Every number of the task, as plain JSON; rates and scores in percent.

    Args:
        pred, true: (N, T), int in [0, C]; arrays or CPU tensors.
        mask: (N, T), bool; padded segments count nowhere.
        num_classes: C.
        segment_seconds: length of a segment, for the boundary errors.

    Returns:
        ``accuracy``: the headline.
        ``event_f1``, ``background_f1``: event against background, whatever the class.
        ``start_error_seconds``, ``end_error_seconds``: mean absolute, over the ``boundary_clips`` with an event both predicted and true;
        None without any.
        ``class_accuracy``: C+1 entries; of the true segments of a class, those labelled so; None for an absent class.
        ``confusion``: (C+1) x (C+1) counts, rows true.
        ``baseline_background``, ``baseline_oracle_class``: the accuracy of answering background always, and of the clip's true class on
        all its segments.
    """
    pred, true, mask = np.asarray(pred), np.asarray(true), np.asarray(mask, dtype=bool)
    table = confusion(pred, true, num_classes + 1, mask)
    totals = table.sum(axis=1)
    event_pred, event_true = pred < num_classes, true < num_classes
    return {
        "accuracy": segment_accuracy(pred, true, mask),
        "event_f1": f1_score(event_pred, event_true, mask),
        "background_f1": f1_score(~event_pred, ~event_true, mask),
        **boundary_errors(event_pred & mask, event_true & mask, segment_seconds),
        "baseline_background": segment_accuracy(np.full_like(true, num_classes), true, mask),
        "baseline_oracle_class": segment_accuracy(_oracle_class(true, mask, num_classes), true, mask),
        "class_accuracy": [100.0 * float(table[c, c] / totals[c]) if totals[c] else None for c in range(num_classes + 1)],
        "confusion": table.tolist(),
    }


def boundary_errors(pred: NDArray[np.bool_], true: NDArray[np.bool_], segment_seconds: float) -> dict[str, Any]:
    """How far the first and the last event segment are off: (N, T), (N, T) bool -> mean seconds over the clips that have both."""
    both = pred.any(axis=1) & true.any(axis=1)
    if not both.any():
        return {"start_error_seconds": None, "end_error_seconds": None, "boundary_clips": 0}
    pred, true = pred[both], true[both]
    starts = np.abs(pred.argmax(axis=1) - true.argmax(axis=1))
    ends = np.abs(pred[:, ::-1].argmax(axis=1) - true[:, ::-1].argmax(axis=1))
    return {
        "start_error_seconds": float(starts.mean()) * segment_seconds,
        "end_error_seconds": float(ends.mean()) * segment_seconds,
        "boundary_clips": int(both.sum()),
    }


def _oracle_class(true: NDArray[np.int64], mask: NDArray[np.bool_], num_classes: int) -> NDArray[np.int64]:
    """The most frequent event class of each clip, background for a clip without one, on all its segments: (N, T)."""
    events = (true[:, :, None] == np.arange(num_classes)) & mask[:, :, None]
    counts = events.sum(axis=1)
    clip = np.where(counts.any(axis=1), counts.argmax(axis=1), num_classes)
    return np.broadcast_to(clip[:, None], true.shape)


def row_targets(
    events: Sequence[Sequence[Mapping[str, Any]]],
    classes: Sequence[str],
    segments: int,
    segment_seconds: float,
    clip_labels: Sequence[Sequence[str]] | None = None,
    rule: SegmentRule = "half",
) -> AvelTargets:
    """Truth of N annotation rows from their indexed events (modality, label, onset, offset): what is seen and heard together counts.

    Args:
        clip_labels: classes of the clips, which say nothing of segments: not read.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    return targets(_spans(events, classes), segments, len(classes), segment_seconds, rule)


def video_targets(
    events: Sequence[Sequence[Mapping[str, Any]]],
    classes: Sequence[str],
    segments: int,
    segment_seconds: float,
    clip_labels: Sequence[Sequence[str]] | None = None,
    proportions: bool = False,
    rule: SegmentRule = "half",
) -> VideoTargets:
    """Weak labels of N annotation rows: which classes an audio-visual event of the clip has, and nothing of when.

    An event counts that has any length within the ``segments`` of the clip. Rows without one are background clips: negatives.

    Args:
        clip_labels: classes of the clips; they count where no event of any modality is known (AVE's row without one, LLP's training).
        proportions: the share of segments of each label instead (PSP's ``prob_label``): how long the events last leaks into them.

    Raises:
        InputProblems: labels that are not in ``classes``, spans that are none.
    """
    spans = _spans(events, classes)
    of_segments = targets(spans, segments, len(classes), segment_seconds, rule).segments
    if proportions:
        return VideoTargets(torch.nn.functional.one_hot(of_segments, len(classes) + 1).float().mean(dim=1))
    labels = torch.zeros(len(spans), len(classes) + 1)
    told = clip_labels if clip_labels is not None else [()] * len(spans)
    known = _numbers([() if len(of_row) else names for of_row, names in zip(events, told, strict=True)], classes)
    for row, of_row, named in zip(labels, spans, known, strict=True):
        present = {label for label, onset, offset in of_row if onset < min(offset, segments * segment_seconds)} | set(named)
        row[sorted(present) or [len(classes)]] = 1
    return VideoTargets(labels)


def _spans(events: Sequence[Sequence[Mapping[str, Any]]], classes: Sequence[str]) -> list[ClipEvents]:
    """The audio-visual events of each row, by class number."""
    numbers = _numbers([[event["label"] for event in of_row] for of_row in events], classes)
    return [
        [(number, event["onset"], event["offset"]) for number, event in zip(of_row, spans, strict=True) if event["modality"] == "av"]
        for of_row, spans in zip(numbers, events, strict=True)
    ]


def _numbers(names: Sequence[Sequence[str]], classes: Sequence[str]) -> list[list[int]]:
    number = {name: position for position, name in enumerate(classes)}
    if unknown := sorted({name for of_row in names for name in of_row} - set(number)):
        raise InputProblems("events", [f"the label {label!r} is not in the class list {', '.join(classes)}" for label in unknown])
    return [[number[name] for name in of_row] for of_row in names]


def score(decided: Tensor, truth: AvelTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """:func:`evaluate` of decided labels (N, T) against a row's targets."""
    return evaluate(decided, truth.segments, mask, num_classes, segment_seconds)


def table(scores: Scores, decided: Tensor, truth: AvelTargets, mask: Tensor) -> pd.DataFrame:
    """One line per segment, clip by clip: segment, valid, true, predicted, event (probability that it holds one), scores (C+1), and, of a
    method with spatial attention, attention (S)."""
    rows, segments = decided.shape
    event = scores.event if scores.event is not None else 1 - scores.segments[..., -1]
    lines = pd.DataFrame({
        "segment": np.tile(np.arange(segments), rows),
        "valid": mask.flatten().numpy(),
        "true": truth.segments.flatten().numpy(),
        "predicted": decided.flatten().numpy(),
        "event": event.float().flatten().numpy(),
        "scores": list(scores.segments.float().flatten(0, 1).numpy()),
    })  # fmt: skip
    if scores.attention is not None:
        lines["attention"] = list(scores.attention.float().flatten(0, 1).numpy())
    return lines


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """By annotation row of :func:`table`'s lines, of one seed or several (column ``seed``): ``score``, the share of its valid segments that
    are right (percent, mean over seeds); ``segments``, their number."""
    valid = lines[lines["valid"]]
    by_row = (valid["true"] == valid["predicted"]).groupby(valid["row"])
    seeds = valid["seed"].nunique() if "seed" in valid else 1
    return pd.DataFrame({"score": by_row.mean() * 100, "segments": by_row.size() // seeds})


def tracks(scores: Scores, mask: Tensor, classes: Sequence[str]) -> Tracks:
    """What is said of one clip (scores and mask with B = 1), on the one track ``both``: the task's events are heard and seen."""
    decided = decide(scores, mask)[0].numpy()
    valid = mask[0].numpy().copy()
    return Tracks(
        classes=tuple(classes),
        scores={"both": scores.segments[0, :, :-1].float().numpy() * valid[:, None]},
        active={"both": (decided[:, None] == np.arange(len(classes))) & valid[:, None]},
        valid=valid,
    )


def table_tracks(lines: pd.DataFrame, classes: Sequence[str]) -> tuple[Tracks, dict[Perceived, NDArray[np.bool_]]]:
    """What :func:`table` says of one clip (its T lines, by segment) as tracks, and the truth by track, (T, C) bool."""
    number = np.arange(len(classes))
    valid = lines["valid"].to_numpy(dtype=bool)
    scores = np.stack(list(lines["scores"]))[:, :-1].astype(np.float32)
    active, true = (lines[column].to_numpy()[:, None] == number for column in ("predicted", "true"))
    tracks = Tracks(tuple(classes), {"both": scores * valid[:, None]}, {"both": active & valid[:, None]}, valid)
    return tracks, {"both": true & valid[:, None]}
