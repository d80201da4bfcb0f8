"""Scores of detected spans with one class each: NumPy only.

Mean average precision as ActivityNet's, ActionFormer's and UnAV's evaluation compute it (Geng et al., CVPR 2023). Shape letters: N videos,
K detections of a video, E events of a video, C classes, H thresholds of overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))
SAME = 1e-3  # seconds; events of one class whose ends differ by no more are one
LENGTH = np.float32(1e-6)  # added to each length in the suppression, as released
SPREAD = np.float32(0.4)  # of the Gaussian: 2 sigma^2, but written as in exp(-IoU^2 / 0.4)


class Spans(NamedTuple):
    """Spans of one video.

    spans: (K, 2), start and end in seconds; labels: (K,), their classes; scores: (K,), of detections; None for true events.
    """

    spans: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None


def overlaps(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of spans (..., A, 2) with spans (..., B, 2): (..., A, B).

    It is 0 where both have no length.

    Example:
        >>> overlaps(np.array([[0.0, 2.0]]), np.array([[1.0, 3.0], [5.0, 6.0]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    one, other = np.asarray(first, np.float64)[..., :, None, :], np.asarray(second, np.float64)[..., None, :, :]
    common = (np.minimum(one[..., 1], other[..., 1]) - np.maximum(one[..., 0], other[..., 0])).clip(0)
    union = (one[..., 1] - one[..., 0]) + (other[..., 1] - other[..., 0]) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def distinct(truth: Spans) -> Spans:
    """The truth without an event given before: of the same class, start and end differing by at most a millisecond."""
    kept: list[int] = []
    for number, (span, label) in enumerate(zip(truth.spans, truth.labels, strict=True)):
        if not any(truth.labels[other] == label and (np.abs(truth.spans[other] - span) <= SAME).all() for other in kept):
            kept.append(number)
    return Spans(truth.spans[kept], truth.labels[kept])


@dataclass(frozen=True)
class Matches:
    """All detections, judged against the truth at H thresholds of overlap.

    They are sorted by class, and within a class by falling score; D is their number.

    thresholds: H.
    labels, videos: (D,), class and video of each detection; scores: (D,).
    right: (D, H), whether it finds an event that no better detection has found.
    events: (N, C), number of true events by video and class.
    """

    thresholds: tuple[float, ...]
    labels: NDArray[np.int64]
    videos: NDArray[np.int64]
    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    events: NDArray[np.int64]

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """Positions of each class's right detections at each threshold, (C, H, most of them); padded with D."""
        position, threshold = np.nonzero(self.right)
        order = np.lexsort((position, threshold, self.labels[position]))
        position, threshold = position[order], threshold[order]
        groups, counts = np.unique(self.labels[position] * len(self.thresholds) + threshold, return_counts=True)
        table = np.full((self.events.shape[1] * len(self.thresholds), counts.max(initial=0)), len(self.labels))
        table[groups.repeat(counts), ranks(counts)] = position
        return table.reshape(self.events.shape[1], len(self.thresholds), -1)


def match(found: Sequence[Spans], truth: Sequence[Spans], num_classes: int, thresholds: Sequence[float] = THRESHOLDS) -> Matches:
    """Match the detections of N videos with their true events.

    Within a video and a class, by falling score (stable), each detection takes the event of highest overlap among those that no earlier
    one has taken and whose overlap reaches the threshold; without any it is false. An event given twice counts once.

    Raises:
        ValueError: the videos do not pair up, or a detection has no score.
    """
    if len(found) != len(truth) or any(one.scores is None for one in found):
        raise ValueError(f"detections of {len(found)} videos and the truth of {len(truth)} do not pair up, or a detection has no score")
    truth = [distinct(one) for one in truth]
    events = np.zeros((len(truth), num_classes), dtype=np.int64)
    for line, one in zip(events, truth, strict=True):
        np.add.at(line, one.labels, 1)
    sizes = [len(one.labels) for one in found]
    spans, labels = _joined([one.spans for one in found], (0, 2)), _joined([one.labels for one in found], 0).astype(np.int64)
    scores = _joined([one.scores for one in found if one.scores is not None], 0).astype(np.float32)
    videos = np.repeat(np.arange(len(found)), sizes)
    order = np.lexsort((-scores, labels, videos))  # lexsort is stable: rank within the video decides between equal scores
    right = np.zeros((len(labels), len(thresholds)), dtype=bool)
    right[order] = _right(spans[order], labels[order], videos[order], truth, thresholds)
    by_class = np.lexsort((-scores, labels))  # stable: video order, then rank
    return Matches(tuple(thresholds), labels[by_class], videos[by_class], scores[by_class], right[by_class], events)


def ranks(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the members of groups of these sizes, each group from 0: [2, 1] -> [0, 1, 0]."""
    return np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)


def _joined(parts: Sequence[NDArray], shape: int | tuple[int, ...]) -> NDArray:
    return np.concatenate([np.zeros(shape, np.float32), *parts]) if parts else np.zeros(shape, np.float32)


def _right(
    spans: NDArray, labels: NDArray[np.int64], videos: NDArray[np.int64], truth: Sequence[Spans], thresholds: Sequence[float]
) -> NDArray[np.bool_]:
    """Whether each detection finds an event, (D, H); detections by video, class and falling score.

    All groups (a class of a video) are walked side by side, one rank after another.
    """
    right = np.zeros((len(labels), len(thresholds)), dtype=bool)
    true_videos, true_labels = (
        np.repeat(np.arange(len(truth)), [len(one.labels) for one in truth]),
        _joined([one.labels for one in truth], 0),
    )
    width = 1 + int(max(labels.max(initial=0), true_labels.max(initial=0)))
    wanted, number, events = np.unique((true_videos * width + true_labels).astype(np.int64), return_inverse=True, return_counts=True)
    found = videos * width + labels  # rises, as `wanted` does
    first, last = np.searchsorted(found, wanted, "left"), np.searchsorted(found, wanted, "right")
    true = np.full((len(wanted), events.max(initial=0), 2), np.nan)
    order = np.argsort(number, kind="stable")
    true[number[order], ranks(events)] = _joined([one.spans for one in truth], (0, 2))[order]
    free = np.repeat(~np.isnan(true[:, None, :, 0]), len(thresholds), axis=1)  # (groups, H, E)
    needed = np.asarray(thresholds)[None, :, None]
    for rank in range(int((last - first).max(initial=0))):
        on = np.flatnonzero(first + rank < last)
        at = first[on] + rank
        overlap = overlaps(spans[at, None], np.nan_to_num(true[on]))  # (groups, 1, E)
        fits = np.where(free[on] & (overlap >= needed), overlap, -1.0)
        best = fits.argmax(axis=2)
        taken = np.take_along_axis(fits, best[..., None], 2)[..., 0] >= 0
        right[at] = taken
        group, threshold = np.nonzero(taken)
        free[on[group], threshold, best[group, threshold]] = False
    return right


def average_precisions(matches: Matches, times: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
    """Average precision (C, H) in [0, 1]: the area below the precision made falling from the right, over recall.

    A class without detections scores 0, one without a true event NaN.

    Args:
        times: (N,), how often each video counts, for a bootstrap without matching again; None: once.
    """
    drawn = np.ones(len(matches.events), dtype=np.int64) if times is None else np.asarray(times)
    events, at = drawn @ matches.events, matches.hits
    weight = np.append(drawn[matches.videos], 0)
    before = np.append(0, weight.cumsum())
    seen = before[at + 1] - before[np.searchsorted(matches.labels, np.arange(len(events)))][:, None, None]
    right = weight[at]
    precision = np.divide(right.cumsum(axis=2), seen, out=np.zeros(at.shape), where=seen > 0)
    falling = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]  # recall rises at hits alone, and precision falls between
    return (right * falling).sum(axis=2) / np.where(events > 0, events, np.nan)[:, None]


def mean_precisions(matches: Matches, times: NDArray[np.integer] | None = None) -> dict[str, float]:
    """Mean average precision in percent: ``mAP``, the mean over the thresholds, and ``mAP@0.1`` ... for each of them.

    Means over the classes with a true event; NaN without any. ``times`` as in :func:`average_precisions`.
    """
    of_classes = average_precisions(matches, times)
    known = of_classes[~np.isnan(of_classes[:, 0])]
    means = 100.0 * known.mean(axis=0) if len(known) else np.full(len(matches.thresholds), np.nan)
    by_threshold = {f"mAP@{threshold:g}": float(mean) for threshold, mean in zip(matches.thresholds, means, strict=True)}
    return {"mAP": float(means.mean()), **by_threshold}


def mean_average_precision(
    found: Sequence[Spans], truth: Sequence[Spans], num_classes: int, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Match the detections of N videos with the truth, and return :func:`mean_precisions`.

    Example:
        >>> truth = [Spans(np.array([[0.0, 10.0]]), np.array([0]))]
        >>> found = [Spans(np.array([[0.0, 6.0]]), np.array([0]), np.array([0.9]))]
        >>> mean_average_precision(found, truth, 1, (0.5, 0.7))
        {'mAP': 50.0, 'mAP@0.5': 100.0, 'mAP@0.7': 0.0}
    """
    return mean_precisions(match(found, truth, num_classes, thresholds))


def resampled_means(matches: Matches, times: NDArray[np.integer]) -> NDArray[np.float64]:
    """``mAP`` of R resamples of the videos, (R,), without matching again; ``times`` (R, N) counts how often each was drawn."""
    return np.array([mean_precisions(matches, draw)["mAP"] for draw in times])


def hulls(truth: Spans) -> Spans:
    """One span for each class of a video, from its first start to its last end; the scores are 1."""
    labels = np.unique(truth.labels)
    inside = [truth.spans[truth.labels == label] for label in labels]
    spans = np.array([(of_class[:, 0].min(), of_class[:, 1].max()) for of_class in inside], dtype=np.float32).reshape(-1, 2)
    return Spans(spans, labels, np.ones(len(labels), np.float32))


def soft_nms(found: Spans, least: float = 1e-3, most_of_class: int = 100, most: int = 100) -> Spans:
    """Suppress overlapping detections of one class by a Gaussian of their overlap, as released; classes do not affect one another.

    In each class, the best detection is taken, and the score of every other is multiplied by exp(-IoU^2 / 0.4), until none is left that
    scores at least ``least``, or ``most_of_class`` are taken. All in float32.

    Returns:
        The ``most`` best of all classes by falling score, with their new scores.

    Example:
        >>> one = Spans(np.array([[0, 4], [0, 4], [6, 9]], np.float32), np.array([2, 2, 2]), np.array([0.9, 0.8, 0.5], np.float32))
        >>> soft_nms(one).scores.round(3).tolist()
        [0.8999999761581421, 0.5, 0.06599999964237213]
    """
    assert found.scores is not None
    order = np.argsort(found.labels, kind="stable")
    classes, first, counts = np.unique(found.labels[order], return_index=True, return_counts=True)
    if not len(classes):
        return found
    at = np.minimum(first[:, None] + np.arange(counts.max()), len(order) - 1)  # (C, M), each class's detections side by side
    spans, scores = found.spans[order].astype(np.float32)[at], found.scores[order].astype(np.float32)[at]
    scores = np.where((np.arange(counts.max()) < counts[:, None]) & (scores >= np.float32(least)), scores, np.float32(-1))
    lengths, row = spans[..., 1] - spans[..., 0] + LENGTH, np.arange(len(classes))
    taken_at, taken_scores = list[NDArray](), list[NDArray]()
    for _ in range(min(most_of_class, int(counts.max()))):
        best = scores.argmax(axis=1)
        value = scores[row, best]
        on = value >= 0
        if not on.any() or (sum(map(len, taken_scores)) >= most and value.max() <= np.sort(np.concatenate(taken_scores))[-most]):
            break  # scores only fall, so nothing left can be among the best
        taken_at.append(order[at[row, best][on]])
        taken_scores.append(value[on])
        span = spans[row, best]
        common = (np.minimum(spans[..., 1], span[:, 1:]) - np.maximum(spans[..., 0], span[:, :1])).clip(0)
        overlap = common / (lengths + lengths[row, best][:, None] - common)
        scores[row, best] = -1
        scores *= np.where(scores >= 0, np.exp(-(overlap * overlap) / SPREAD), np.float32(1))
        scores[scores < np.float32(least)] = -1
    kept, values = np.concatenate([np.zeros(0, np.int64), *taken_at]), np.concatenate([np.zeros(0, np.float32), *taken_scores])
    ranked = np.argsort(-values, kind="stable")[:most]
    return Spans(found.spans[kept[ranked]], found.labels[kept[ranked]], values[ranked])
