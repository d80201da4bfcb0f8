"""The paired bootstrap against theory and against a loop."""

from __future__ import annotations

import numpy as np
import pytest

import pipeline.metrics.bootstrap as bootstrap
from pipeline.metrics.bootstrap import mean_intervals, paired_bootstrap


@pytest.fixture
def scores():
    generator = np.random.default_rng(3)
    return generator.normal(80, 10, 200), generator.normal(78, 10, 200)


def test_interval_is_that_of_the_normal_approximation(scores):
    first, second = scores
    mean, low, high = paired_bootstrap(first, second)
    difference = first - second
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    assert mean == pytest.approx(difference.mean())
    assert low == pytest.approx(difference.mean() - half, abs=0.06)
    assert high == pytest.approx(difference.mean() + half, abs=0.06)


def test_same_seed_same_interval(scores):
    assert paired_bootstrap(*scores, seed=5) == paired_bootstrap(*scores, seed=5)
    assert paired_bootstrap(*scores, seed=5) != paired_bootstrap(*scores, seed=6)


def test_blocks_do_not_change_the_draws(scores, monkeypatch):
    whole = paired_bootstrap(*scores, resamples=500)
    monkeypatch.setattr(bootstrap, "BLOCK", 200 * 77)
    assert paired_bootstrap(*scores, resamples=500) == pytest.approx(whole)


def test_it_is_paired():
    """Clips differ widely, methods by a constant: the interval of a paired test has no width."""
    hard = np.linspace(0, 90, 30)
    assert paired_bootstrap(hard + 2, hard) == pytest.approx((2, 2, 2))


def test_swapped_rows_mirror(scores):
    first, second = scores
    there, back = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_weights_count_segments():
    mean, low, high = paired_bootstrap([100.0, 0.0], [0.0, 0.0], weights=[30, 10])
    assert mean == pytest.approx(75)
    assert (low, high) == pytest.approx((0, 100))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [([1.0, 2.0], [1.0], "pair up"), ([], [], "pair up"), ([1.0, np.nan], [1.0, 1.0], "not finite"), ([[1.0]], [[1.0]], "pair up")],
)
def test_scores_that_do_not_pair(first, second, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(first, second)


def test_intervals_of_means_are_those_of_the_normal_approximation(scores):
    intervals = mean_intervals(np.stack(scores, axis=1))
    for (low, high), of_clips in zip(intervals, scores, strict=True):
        half = 1.96 * of_clips.std() / np.sqrt(len(of_clips))
        assert (low, high) == (pytest.approx(of_clips.mean() - half, abs=0.06), pytest.approx(of_clips.mean() + half, abs=0.06))


def test_intervals_of_means_come_from_draws_of_whole_clips(scores, monkeypatch):
    """Two scores with a constant sum, on the same draws, mirror each other; and blocks of draws change nothing."""
    first = scores[0]
    intervals = mean_intervals(np.stack([first, 100 - first], axis=1), resamples=500)
    np.testing.assert_allclose(intervals[0], 100 - intervals[1][::-1])
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * len(first))
    np.testing.assert_allclose(mean_intervals(first[:, None], resamples=500), intervals[:1])


def test_intervals_of_nothing_are_refused():
    with pytest.raises(ValueError, match="one clip"):
        mean_intervals(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="finite"):
        mean_intervals([[np.nan]])


def test_whole_groups_are_drawn(scores):
    """Clips repeated in a group tell no more than one of them, and weights count within a group."""
    ours, theirs = scores
    repeated = [np.repeat(values, 3) for values in (ours, theirs)]
    expected = paired_bootstrap(ours, theirs)
    grouped = paired_bootstrap(*repeated, groups=np.repeat(np.arange(len(ours)), 3))
    assert grouped == pytest.approx(expected)
    assert paired_bootstrap(*repeated).high - paired_bootstrap(*repeated).low < 0.7 * (expected.high - expected.low)
    weights = np.tile([1.0, 2.0], len(ours) // 2 + 1)[: len(ours)]
    assert paired_bootstrap(ours, theirs, weights=weights, groups=np.arange(len(ours))) == pytest.approx(
        paired_bootstrap(ours, theirs, weights=weights)
    )
