"""Audio-visual event localization: from scores to segment labels, metrics and the table of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.metrics.segments import boundary_errors, confusion, f1_score, oracle_class, segment_accuracy
from pipeline.tasks.avel.targets import AvelTargets

EVENT_THRESHOLD = 0.5


@dataclass
class Scores(Tensors):
    """A method's scores of B clips, before any decision.

    segments: (B, T, C+1), probabilities over classes and background, last index background.
    event: (B, T), probability that the segment contains an event, for methods with an event head; else None.
    classes: (B, C), probability of the clip's event class, for methods with a clip-level head; else None. Under weak supervision
        (B, C+1): the whole clip may also be background.
        With both heads the two-head rule decides: argmax of ``classes`` where ``event`` > 0.5, else background.
    attention: (B, T, S), weight of each spatial position, summing to 1 over S; None without spatial attention.
    """

    segments: Tensor
    event: Tensor | None = None
    classes: Tensor | None = None
    attention: Tensor | None = None


def decide(scores: Scores, mask: Tensor) -> Tensor:
    """The label of every segment.

    With an event head and a clip-level head, the two-head rule: the clip's most probable class (possibly background under weak supervision)
    where event > 0.5 (strictly), else background. Otherwise the most probable of the C+1 segment labels. Padded segments are background.

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
    """All metrics of the task as plain JSON; rates and scores in percent.

    Args:
        pred, true: (N, T), int in [0, C]; arrays or CPU tensors.
        mask: (N, T), bool; padded segments are not counted.
        num_classes: C.
        segment_seconds: length of a segment, for the boundary errors.

    Returns:
        ``accuracy``: the headline.
        ``event_f1``, ``background_f1``: event against background, regardless of class.
        ``start_error_seconds``, ``end_error_seconds``: mean absolute errors over the ``boundary_clips``, clips with both a true and a
        predicted event; None without any.
        ``class_accuracy``: C+1 entries, the share of a class's true segments labelled correctly; None for an absent class.
        ``confusion``: (C+1) x (C+1) counts, true classes in matrix rows.
        ``baseline_background``, ``baseline_oracle_class``: accuracy of always answering background, and of answering the clip's true class
        on all its segments.
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
        "baseline_oracle_class": segment_accuracy(oracle_class(true, mask, num_classes), true, mask),
        "class_accuracy": [100.0 * float(table[c, c] / totals[c]) if totals[c] else None for c in range(num_classes + 1)],
        "confusion": table.tolist(),
    }


def score(decided: Tensor, truth: AvelTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """Metrics of decided labels (N, T), see :func:`evaluate`."""
    return evaluate(decided, truth.segments, mask, num_classes, segment_seconds)


def table(scores: Scores, decided: Tensor, truth: AvelTargets, mask: Tensor) -> pd.DataFrame:
    """The predictions, one line per segment, clip by clip.

    Columns: clip_number, segment, valid, true, predicted, event (probability of an event), scores (C+1), and, for a method with spatial
    attention, attention (S).
    """
    clips, segments = decided.shape
    event = scores.event if scores.event is not None else 1 - scores.segments[..., -1]
    lines = pd.DataFrame({
        "clip_number": np.repeat(np.arange(clips), segments),
        "segment": np.tile(np.arange(segments), clips),
        "valid": mask.flatten().numpy(),
        "true": truth.segments.flatten().numpy(),
        "predicted": decided.flatten().numpy(),
        "event": event.float().flatten().numpy(),
        "scores": list(scores.segments.float().flatten(0, 1).numpy()),
    })  # fmt: skip
    if scores.attention is not None:
        lines["attention"] = list(scores.attention.float().flatten(0, 1).numpy())
    return lines
