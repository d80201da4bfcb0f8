"""Scores of segment labels: integer arrays (N clips, T segments), NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def segment_accuracy(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Share of segments with the right label, in percent: the headline number on AVE (4,020 test segments).

    Args:
        pred, true: (N, T), int.
        mask: (N, T), bool; segments where it is False do not count. None: all count.

    Returns:
        Percent in [0, 100].

    Raises:
        ValueError: shapes differ, or nothing to score.

    Example:
        >>> segment_accuracy([[0, 0, 1]], [[0, 1, 1]])
        66.66666666666667
    """
    pred, true, counted = _checked(pred, true, mask)
    if not counted.any():
        raise ValueError("no segments to score")
    return 100.0 * int((pred == true)[counted].sum()) / int(counted.sum())


def clip_accuracy(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.float64]:
    """Accuracy of each clip in percent, (N,), for the bootstrap; NaN for a clip without a counted segment."""
    pred, true, counted = _checked(pred, true, mask)
    totals = counted.sum(axis=1)
    right = ((pred == true) & counted).sum(axis=1)
    return np.divide(100.0 * right, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def confusion(pred: ArrayLike, true: ArrayLike, num_labels: int, mask: ArrayLike | None = None) -> NDArray[np.int64]:
    """Count (true, predicted) labels: (num_labels, num_labels), true along the first axis.

    Raises:
        ValueError: shapes differ, or a counted label outside [0, num_labels).
    """
    pred, true, counted = _checked(pred, true, mask)
    pred, true = pred[counted], true[counted]
    for name, labels in (("predicted", pred), ("true", true)):
        if labels.size and not (labels.min() >= 0 and labels.max() < num_labels):
            raise ValueError(f"{name} labels reach from {labels.min()} to {labels.max()}; expected 0..{num_labels - 1}")
    flat = true.astype(np.int64) * num_labels + pred
    return np.bincount(flat, minlength=num_labels**2).reshape(num_labels, num_labels)


def f1_score(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of a yes/no label, over all segments together.

    Args:
        pred, true: (N, T), bool.
        mask: (N, T), bool; as in :func:`segment_accuracy`.

    Returns:
        Percent in [0, 100]; 100 where there is nothing to find and nothing is found.

    Raises:
        ValueError: shapes differ.
    """
    pred, true, counted = _checked(pred, true, mask)
    pred, true = pred[counted].astype(bool), true[counted].astype(bool)
    both, either = int((pred & true).sum()), int(pred.sum()) + int(true.sum())
    return 200.0 * both / either if either else 100.0


def _checked(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    pred, true = np.asarray(pred), np.asarray(true)
    counted = np.ones(true.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if not pred.shape == true.shape == counted.shape or true.ndim != 2:
        raise ValueError(f"predictions {pred.shape}, truth {true.shape} and mask {counted.shape} must have the same shape (N, T)")
    return pred, true, counted


def boundary_errors(pred: NDArray[np.bool_], true: NDArray[np.bool_], segment_seconds: float) -> dict[str, Any]:
    """Mean error of the first and of the last event segment, in seconds.

    (N, T), (N, T) bool; over the clips with a true and a predicted event.
    """
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


def oracle_class(true: NDArray[np.int64], mask: NDArray[np.bool_], num_classes: int) -> NDArray[np.int64]:
    """Most frequent event class of each clip, or background without one, repeated over its segments: (N, T)."""
    events = (true[:, :, None] == np.arange(num_classes)) & mask[:, :, None]
    counts = events.sum(axis=1)
    clip = np.where(counts.any(axis=1), counts.argmax(axis=1), num_classes)
    return np.broadcast_to(clip[:, None], true.shape)
