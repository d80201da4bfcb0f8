"""Bootstrap over clips, paired and of single scores, to tell a better run from a lucky choice of test clips."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 2_000_000  # drawn indices held in memory at once


class Difference(NamedTuple):
    """Mean of first - second, and the bounds of its interval, in the unit of the scores."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, seed: int = 0, resamples: int = 10_000, level: float = 0.95,
    weights: ArrayLike | None = None, groups: ArrayLike | None = None,
) -> Difference:  # fmt: skip
    """Percentile interval of the mean difference when the N clips are drawn again with replacement.

    Segments of a clip are correlated, so clips are drawn, not segments; both methods are judged on the same draw.

    Args:
        first, second: (N,), a score per clip in the same order, e.g. from :func:`pipeline.metrics.segments.clip_accuracy`.
        seed: the same seed gives the same interval.
        resamples: draws.
        level: in (0, 1).
        weights: (N,), positive; the number of segments of each clip where these differ. None: all equal.
        groups: (N,), the group of each clip; whole groups are drawn (the cluster bootstrap). None: each clip is one.

    Raises:
        ValueError: the scores do not pair up, are not finite, or there are none.

    Example:
        >>> paired_bootstrap([80.0, 70.0, 90.0], [70.0, 60.0, 80.0])
        Difference(mean=10.0, low=10.0, high=10.0)
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    weight = np.ones(difference.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if np.shape(first) != np.shape(second) or difference.ndim != 1 or weight.shape != difference.shape or not difference.size:
        raise ValueError(f"scores of shape {np.shape(first)} and {np.shape(second)} (weights {weight.shape}) do not pair up clip by clip")
    if not np.isfinite(difference).all() or not (weight > 0).all():
        raise ValueError("a clip's score is not finite, or its weight not positive; leave clips without segments out")
    generator = np.random.default_rng(seed)
    means = []
    total, divisor = difference * weight, weight
    if groups is not None:
        of_group = np.unique(np.asarray(groups), return_inverse=True)[1]
        total, divisor = (np.bincount(of_group, weights=part).astype(np.float64) for part in (total, divisor))
    step = max(1, BLOCK // total.size)
    for start in range(0, resamples, step):
        drawn = generator.integers(total.size, size=(min(step, resamples - start), total.size))
        means.append(total[drawn].sum(axis=1) / divisor[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(np.average(difference, weights=weight)), float(low), float(high))


def mean_intervals(scores: ArrayLike, seed: int = 0, resamples: int = 10_000, level: float = 0.95) -> NDArray[np.float64]:
    """Percentile intervals of the means of K scores over N clips drawn with replacement, the same draws for all K.

    Args:
        scores: (N, K), finite; N >= 1.
        seed, resamples, level: as in :func:`paired_bootstrap`.

    Returns:
        (K, 2), the lower and the upper bound, in the unit of the scores.

    Raises:
        ValueError: the scores are not finite, or there are none.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"scores of shape {values.shape} must be (N, K), finite, and of at least one clip")
    generator = np.random.default_rng(seed)
    clips, means = len(values), []
    step = max(1, BLOCK // clips)
    for start in range(0, resamples, step):
        drawn = generator.integers(clips, size=(min(step, resamples - start), clips))
        slots = drawn + np.arange(len(drawn))[:, None] * clips
        times = np.bincount(slots.ravel(), minlength=len(drawn) * clips).reshape(len(drawn), clips)  # draws of each clip
        means.append(times @ values / clips)
    return np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0).T
