"""Scores of detected spans with one class each: NumPy only.

Mean average precision as ActivityNet's, ActionFormer's and UnAV's evaluation compute it (Geng et al., CVPR 2023). Shape letters: N videos,
K detections of a video, E events of a video, C classes, H thresholds of overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def _joined(parts: Sequence[NDArray], shape: int | tuple[int, ...]) -> NDArray:
    return np.concatenate([np.zeros(shape, np.float32), *parts]) if parts else np.zeros(shape, np.float32)


def _right(
    spans: NDArray, labels: NDArray[np.int64], videos: NDArray[np.int64], truth: Sequence[Spans], thresholds: Sequence[float]
) -> NDArray[np.bool_]:
    """Whether each detection finds an event, (D, H); detections by video, class and falling score.

    All groups (a class of a video) are walked side by side, one rank after another.
    """
    right = np.zeros((len(labels), len(thresholds)), dtype=bool)
    new = np.flatnonzero(np.diff(labels, prepend=-1) | np.diff(videos, prepend=-1))
    ends = np.append(new[1:], len(labels))
    groups = [
        (start, end, of_class)
        for start, end in zip(new.tolist(), ends.tolist(), strict=True)
        if len(of_class := truth[videos[start]].spans[truth[videos[start]].labels == labels[start]])
    ]
    if not groups:
        return right
    first, last = (np.array([group[part] for group in groups]) for part in (0, 1))
    true = np.full((len(groups), max(len(group[2]) for group in groups), 2), np.nan)
    for line, (_, _, of_class) in zip(true, groups, strict=True):
        line[: len(of_class)] = of_class
    free = np.repeat(~np.isnan(true[:, None, :, 0]), len(thresholds), axis=1)  # (groups, H, E)
    needed = np.asarray(thresholds)[None, :, None]
    for rank in range(int((last - first).max())):
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
    events = drawn @ matches.events
    scores = np.zeros((len(events), len(matches.thresholds)))
    edges = np.searchsorted(matches.labels, np.arange(len(events) + 1))
    weight = drawn[matches.videos][:, None]
    hits = matches.right * weight
    for label in np.flatnonzero(events):
        inside = slice(edges[label], edges[label + 1])
        if inside.start == inside.stop:
            continue
        true, of_class = hits[inside].cumsum(axis=0), weight[inside].cumsum(axis=0)
        precision = np.divide(true, of_class, out=np.zeros(true.shape), where=of_class > 0)
        falling = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        scores[label] = (hits[inside] * falling).sum(axis=0) / events[label]
    return np.where(events[:, None] > 0, scores, np.nan)


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


def hulls(truth: Spans) -> Spans:
    """One span for each class of a video, from its first start to its last end; the scores are 1."""
    labels = np.unique(truth.labels)
    inside = [truth.spans[truth.labels == label] for label in labels]
    spans = np.array([(of_class[:, 0].min(), of_class[:, 1].max()) for of_class in inside], dtype=np.float32).reshape(-1, 2)
    return Spans(spans, labels, np.ones(len(labels), np.float32))


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
