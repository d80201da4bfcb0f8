"""Scores of cross-modality localization, on the start of an event of given length: integer arrays (N,), NumPy only.

Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018, cross-modality localization: an answer counts only if its
start is exactly the true one; it has the length of the query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def exact_starts(pred: ArrayLike, true: ArrayLike) -> float:
    """Share of answers that start exactly at the event's start, in percent.

    Args:
        pred, true: (N,), int, segments.

    Raises:
        ValueError: shapes differ, or nothing to score.
    """
    pred, true = np.asarray(pred), np.asarray(true)
    if pred.shape != true.shape or true.ndim != 1 or not true.size:
        raise ValueError(f"answers {pred.shape} and true starts {true.shape} must be equally many, and at least one")
    return 100.0 * int((pred == true).sum()) / true.size


def mean_overlap(pred: ArrayLike, true: ArrayLike, length: ArrayLike) -> float:
    """Intersection over union of [pred, pred + length) and [true, true + length), mean over the N answers, in percent.

    Args:
        pred, true: (N,), int. length: (N,), int, >= 1.

    Raises:
        ValueError: shapes differ, nothing to score, or a length below 1.
    """
    pred, true, length = np.asarray(pred), np.asarray(true), np.asarray(length)
    if not pred.shape == true.shape == length.shape or true.ndim != 1 or not true.size or (length < 1).any():
        raise ValueError(f"answers {pred.shape}, true starts {true.shape} and lengths {length.shape} must be equally many, lengths >= 1")
    common = np.maximum(0, length - np.abs(pred - true))
    return 100.0 * float(np.mean(common / (2 * length - common)))


def trivial_answers(true: ArrayLike, length: ArrayLike, segments: ArrayLike) -> dict[str, float]:
    """Scores of answers that ignore the input: always the ``first`` or ``last`` window, or ``chance`` among all windows.

    Percent of exact starts, and mean overlap under ``first_iou``, ``last_iou``, ``chance_iou``.

    Args:
        true, length: (N,), int, start and length of the events.
        segments: (N,), int, number of segments of each clip.
    """
    true, length, segments = np.asarray(true), np.asarray(length), np.asarray(segments)
    last = segments - length
    fitting = [np.arange(end + 1) for end in last]
    overlaps = [mean_overlap(w, np.full_like(w, t), np.full_like(w, n)) for w, t, n in zip(fitting, true, length, strict=True)]
    return {
        "first": exact_starts(np.zeros_like(true), true),
        "last": exact_starts(last, true),
        "chance": 100.0 * float(np.mean(1 / (last + 1))),
        "first_iou": mean_overlap(np.zeros_like(true), true, length),
        "last_iou": mean_overlap(last, true, length),
        "chance_iou": float(np.mean(overlaps)),
    }
