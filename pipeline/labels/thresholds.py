"""Thresholds of labels: given, above the background, or searched on dense labels of validation as UWAV does.

Shape letters: N clips, T segments, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.labels.settings import Teacher
from pipeline.labels.teachers import Modality, as_scores
from pipeline.labels.valor import VALOR


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of C classes, in the units of the scores.

    hard: (C,), a label is on where its score is above; -inf: everywhere. soft: (C,), finite, where a soft label is one half.
    """

    hard: NDArray[np.float32]
    soft: NDArray[np.float32]


def given(modality: Modality, teacher: Teacher, classes: Sequence[str]) -> Thresholds:
    """The thresholds that the settings state, as scores."""
    stated = VALOR[modality].thresholds if teacher.thresholds == "valor" else teacher.thresholds
    values = np.array([stated[label] if isinstance(stated, dict) else stated for label in classes], np.float32)
    return Thresholds(values, values) if teacher.texts is not None else Thresholds(as_scores(values), as_scores(values))


def of_background(scores: NDArray[np.float32], told: NDArray[np.bool_], valid: NDArray[np.bool_], share: float) -> Thresholds:
    """Per class, what ``share`` of the scores in clips without its label stay below.

    Our rule; it needs no label of segments. A class that every clip has gets -inf (soft: one below its lowest score).

    Args:
        scores: (N, T, C), of training. told: (N, C), clip labels. valid: (N, T).
    """
    count = scores.shape[2]
    hard, soft = np.full(count, -np.inf, np.float32), np.zeros(count, np.float32)
    for number in range(count):
        without = scores[..., number][valid & ~told[:, None, number]]
        if without.size and np.isfinite(without).all():
            hard[number] = np.quantile(without, share)
        soft[number] = hard[number] if np.isfinite(hard[number]) else _below_all(scores[..., number][valid])
    return Thresholds(hard, soft)


def _below_all(scores: NDArray[np.float32]) -> float:
    """One below the lowest score; 0 where there is none, or no teacher."""
    return float(scores.min() - 1) if scores.size and np.isfinite(scores).any() else 0.0


def searched(scores: NDArray[np.float32], told: NDArray[np.bool_], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> Thresholds:
    """Per class, the cut of the highest F1 over all segments, the lowest of equal ones.

    A clip without the label is never on. The threshold is the middle between the lowest score above the cut and the highest below it. Where
    all segments on is best, or no segment is true, it is -inf (soft: one below the class's lowest score on validation; UWAV: in the batch,
    so that it moves with the other clips).

    Args:
        scores: (N, T, C), of validation. told: (N, C), clip labels. truth: (N, T, C). valid: (N, T).
    """
    count = scores.shape[2]
    hard, soft = np.full(count, -np.inf, np.float32), np.zeros(count, np.float32)
    for number in range(count):
        inside = valid & told[:, None, number]
        values, right = scores[..., number][inside], truth[..., number][inside]
        if right.any() and np.isfinite(values).all():
            true = int((truth[..., number] & valid).sum())  # more than in the clips with the label where that one is wrong
            hard[number] = _best_cut(values, right, true, int(valid.sum()))
        soft[number] = hard[number] if np.isfinite(hard[number]) else _below_all(scores[..., number][valid])
    return Thresholds(hard, soft)


def _best_cut(values: NDArray[np.float32], right: NDArray[np.bool_], true: int, segments: int) -> float:
    """The cut among (M,) scores, of which ``right`` are true; ``true`` and ``segments`` count those of all clips."""
    levels, place = np.unique(values, return_inverse=True)
    hits = np.bincount(place, weights=right, minlength=len(levels))[::-1].cumsum()[::-1]  # from each level up
    on = np.bincount(place, minlength=len(levels))[::-1].cumsum()[::-1]
    scores = 2 * hits / (on + true)
    best = int(np.argmax(scores))
    everything = 2 * true / (segments + true)  # clips without the label included, whose score counts as -inf
    return -np.inf if best == 0 or everything >= scores[best] else float((levels[best - 1] + levels[best]) / 2)


def soft_labels(scores: NDArray[np.float32], thresholds: Thresholds, temperature: float) -> NDArray[np.float32]:
    """(N, T, C) scores -> (N, T, C) in 0..1."""
    return expit((scores - thresholds.soft) / np.float32(temperature)).astype(np.float32)
