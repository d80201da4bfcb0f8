"""Detections from the probabilities of segments: runs of segments above a threshold. NumPy only.

Shape letters: T segments, C classes, K runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.detection import THRESHOLDS, Spans


def spans_of_runs(segments: NDArray[np.floating], clip: NDArray[np.floating], thresholds: Sequence[float] = THRESHOLDS) -> Spans:
    """Every run of segments in which a class reaches a threshold, once however many thresholds give it.

    Args:
        segments: (T, C), probabilities; 0 in padding.
        clip: (C,), probabilities of the clip.
        thresholds: above 0.

    Returns:
        Spans in segments; a run's score is the mean of its probabilities times that of the clip.

    Example:
        >>> spans_of_runs(np.array([[0.2], [0.8], [0.0]]), np.array([0.5]), (0.1, 0.5)).spans.tolist()
        [[0.0, 2.0], [1.0, 2.0]]
    """
    on = segments.T[:, None] >= np.asarray(thresholds)[:, None]  # (C, H, T)
    edges = np.diff(np.pad(on, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
    label, _, start = np.nonzero(edges > 0)  # both in the same order: class, threshold, time
    end = np.nonzero(edges < 0)[2]
    runs = np.unique(np.stack([label, start, end], axis=1), axis=0)
    label, start, end = runs.T
    total = np.concatenate([np.zeros((1, segments.shape[1])), segments.cumsum(axis=0, dtype=np.float64)])
    mean = (total[end, label] - total[start, label]) / np.maximum(end - start, 1)
    return Spans(runs[:, 1:].astype(np.float32), label, (mean * clip[label]).astype(np.float32))
