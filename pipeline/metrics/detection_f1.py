"""F1 of the detections that reach a threshold, and the threshold itself: NumPy only. Letters as in :mod:`pipeline.metrics.detection`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.detection import Matches, Spans, overlaps


def best_cut(matches: Matches, otherwise: float) -> np.float32:
    """The score at which detections of at least it have the highest F1 over all videos; among equals the highest.

    Args:
        matches: at one threshold of overlap. As detections are matched by falling score, a cut leaves the matches above it as they are.
        otherwise: the answer if no detection is right.
    """
    order = np.argsort(-matches.scores, kind="stable")
    scores, hits = matches.scores[order], matches.right[order, 0].cumsum()
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # equal scores are on the same side of a cut
    if not len(last) or not hits[-1]:
        return np.float32(otherwise)
    f1 = 2 * hits[last] / (last + 1 + matches.events.sum())
    return np.float32(scores[last[f1.argmax()]])


def counts_of_videos(matches: Matches) -> NDArray[np.int64]:
    """Detections that are right at the first threshold, all detections, and true events of each video: (N, 3)."""
    videos = len(matches.events)
    right = np.bincount(matches.videos[matches.right[:, 0]], minlength=videos)
    return np.stack([right, np.bincount(matches.videos, minlength=videos), matches.events.sum(axis=1)], axis=1)


def f1_of(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """F1 in percent from counts (..., 3) of right, found and true.

    It is 100 where nothing is to be found, and nothing is.

    >>> f1_of(np.array([[1, 2, 2], [0, 0, 0]])).tolist()
    [50.0, 100.0]
    """
    either = counts[..., 1] + counts[..., 2]
    return 100.0 * np.divide(2 * counts[..., 0], either, out=np.ones(either.shape), where=either > 0)


def taken(found: Spans, truth: Spans, threshold: float) -> NDArray[np.int64]:
    """Number of the event that each detection of one video finds, (K,); -1 for a false one.

    They are matched as in :func:`match`.
    """
    assert found.scores is not None
    events = np.full(len(found.labels), -1)
    same = np.equal.outer(found.labels, truth.labels)
    fits = np.where(same, overlaps(found.spans, truth.spans), 0.0)
    for number in np.argsort(-found.scores, kind="stable"):
        left = np.where(np.isin(np.arange(len(truth.labels)), events), 0.0, fits[number])
        if len(left) and left.max() >= threshold:
            events[number] = left.argmax()
    return events


def event_confusion(found: Sequence[Spans], truth: Sequence[Spans], num_classes: int, threshold: float) -> NDArray[np.int64]:
    """Count true events by the class of a detection there, (C + 1, C + 1), true classes first.

    Index C is nothing. A detection of the event's own class comes first, then the best of another class; an event without any is missed
    (true, C), and a detection that overlaps no event enough is false (C, found).
    """
    table = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for answer, true in zip(found, truth, strict=True):
        assert answer.scores is not None
        fits = overlaps(true.spans, answer.spans) >= threshold
        ranks = answer.scores[None] + 2.0 * np.equal.outer(true.labels, answer.labels)  # scores are at most 1
        for label, on, rank in zip(true.labels, fits, ranks, strict=True):
            table[label, answer.labels[np.where(on, rank, -1.0).argmax()] if on.any() else num_classes] += 1
        np.add.at(table[num_classes], answer.labels[~fits.any(axis=0)], 1)
    return table
