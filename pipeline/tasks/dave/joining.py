"""Detections of a long file from those of windows that lie half a window apart.

An event up to half a window long lies whole in some window; the windows that cut it drop their part. Of a longer event the windows see
parts, which are put together where both windows saw the cut; a part that a window misses leaves it cut. A file of one window keeps the
detections as they are. Shape letters: D detections of all windows, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.metrics.detection import SPREAD, overlaps
from pipeline.tasks.dave.scores import DetectionScores

overlapping_windows = True
LEAST = np.float32(1e-3)  # score below which a detection is dropped, as in the suppression within a window


@dataclass
class _Pieces:
    """Detections of all windows, in seconds of the file.

    seen: (D, W), the windows that a detection was put together from.
    from_start, to_end: (D,), whether it reaches the inner border at which its first window begins, or its last one ends.
    """

    spans: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    seen: NDArray[np.bool_]
    from_start: NDArray[np.bool_]
    to_end: NDArray[np.bool_]

    def __getitem__(self, chosen: NDArray) -> _Pieces:
        return _Pieces(*(part[chosen] for part in vars(self).values()))


def joined(
    windows: Sequence[tuple[float, DetectionScores]], window_seconds: float, segment_seconds: float, seconds: float
) -> DetectionScores:
    """Join the detections of the decoded windows of a file.

    A detection within one segment of an inner border of its window is dropped if another window covers it whole; parts of one class that
    reach the border from both sides become one, with the better score; then the overlap of detections of different windows lowers the
    scores of the lesser ones, as within a window.

    Args:
        windows: the start of each in seconds of the file, in order, and its scores (B = 1).
        window_seconds, segment_seconds: length of a window and of a segment.
        seconds: of the file; no detection lies beyond.

    Returns:
        The detections of the file (B = 1), by falling score.
    """
    begin = np.array([start for start, _ in windows])
    end = np.minimum(begin + window_seconds, seconds)
    pieces = _read(windows, begin, end, segment_seconds, seconds)
    if len(windows) > 1:
        pieces = pieces[~_covered(pieces, begin, end, segment_seconds, seconds)]
        pieces = _merged(pieces, begin, end, float(windows[0][1].threshold[0]))
        pieces = _suppressed(pieces)
    pieces = pieces[np.argsort(-pieces.scores, kind="stable")]
    spans, labels, scores = (torch.from_numpy(part)[None] for part in (pieces.spans, pieces.labels, pieces.scores))
    return DetectionScores(spans, labels, scores, windows[0][1].threshold)


def _read(
    windows: Sequence[tuple[float, DetectionScores]], begin: NDArray, end: NDArray, segment_seconds: float, seconds: float
) -> _Pieces:
    """Detections of all windows on the clock of the file."""
    own = [one.labels[0].numpy() >= 0 for _, one in windows]
    window = np.repeat(np.arange(len(windows)), [int(kept.sum()) for kept in own])
    spans, labels, scores = (
        np.concatenate([getattr(one, name)[0].numpy()[kept] for (_, one), kept in zip(windows, own, strict=True)])
        for name in ("spans", "labels", "scores")
    )
    at = (spans.astype(np.float64) + begin[window, None]).clip(begin[window, None], end[window, None])
    from_start = (begin[window] > 0) & (at[:, 0] <= begin[window] + segment_seconds)
    to_end = (end[window] < seconds) & (at[:, 1] >= end[window] - segment_seconds)
    return _Pieces(at.astype(np.float32), labels, scores.astype(np.float32), window[:, None] == np.arange(len(windows)), from_start, to_end)


def _covered(pieces: _Pieces, begin: NDArray, end: NDArray, segment_seconds: float, seconds: float) -> NDArray[np.bool_]:
    """Whether a detection reaches an inner border, and another window holds it clear of its own inner borders: (D,)."""
    first = np.where(begin > 0, begin + segment_seconds, -np.inf)
    last = np.where(end < seconds, end - segment_seconds, np.inf)
    inside = (pieces.spans[:, :1] > first) & (pieces.spans[:, 1:] < last) & ~pieces.seen
    return (pieces.from_start | pieces.to_end) & inside.any(axis=1)


def _merged(pieces: _Pieces, begin: NDArray, end: NDArray, threshold: float) -> _Pieces:
    """Put together the best parts of a class on both sides of a border; chains become one event."""
    pieces = pieces[np.arange(len(pieces.labels))]  # a copy
    kept = np.ones(len(pieces.labels), dtype=bool)
    for label in np.unique(pieces.labels):
        for window in range(len(begin)):
            may = kept & (pieces.labels == label) & (pieces.scores >= threshold)
            left = np.flatnonzero(may & pieces.to_end & (_last(pieces) == window))
            later = may & pieces.from_start & (_first(pieces) > window) & (begin[_first(pieces)] <= end[window])
            if not len(left) or not later.any():
                continue
            right = np.flatnonzero(later & (_first(pieces) == _first(pieces)[later].min()))
            one, other = left[pieces.scores[left].argmax()], right[pieces.scores[right].argmax()]
            pieces.spans[other, 0] = min(pieces.spans[one, 0], pieces.spans[other, 0])
            pieces.scores[other] = max(pieces.scores[one], pieces.scores[other])
            pieces.seen[other] |= pieces.seen[one]
            pieces.from_start[other] = pieces.from_start[one]
            kept[one] = False
    return pieces[kept]


def _first(pieces: _Pieces) -> NDArray[np.int64]:
    return pieces.seen.argmax(axis=1)


def _last(pieces: _Pieces) -> NDArray[np.int64]:
    return pieces.seen.shape[1] - 1 - pieces.seen[:, ::-1].argmax(axis=1)


def _suppressed(pieces: _Pieces) -> _Pieces:
    """Lower the score of what overlaps a better detection of its class from other windows."""
    pieces = pieces[np.arange(len(pieces.labels))]
    for label in np.unique(pieces.labels):
        left = np.flatnonzero(pieces.labels == label)
        while len(left) > 1:
            best = left[pieces.scores[left].argmax()]
            left = left[left != best]
            overlap = overlaps(pieces.spans[best][None], pieces.spans[left])[0].astype(np.float32)
            apart = ~(pieces.seen[left] & pieces.seen[best]).any(axis=1)
            pieces.scores[left] *= np.where(apart, np.exp(-(overlap * overlap) / SPREAD), np.float32(1))
            left = left[pieces.scores[left] >= LEAST]
    return pieces[pieces.scores >= LEAST]
