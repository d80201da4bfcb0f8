"""Thresholds of a clip gate by class: a case counted by hand, and a loop that asks the metric of whole answers every time."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.parsing import parsing_scores
from pipeline.metrics.parsing_thresholds import GRID, select_thresholds


def test_the_grid_is_the_published_one():
    assert GRID == (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def test_a_case_counted_by_hand():
    """Two classes, three clips, two segments, everything on in the segments; the gates of the clips decide.

    Class 0 is true in clip 0 (P 0.62) and not in clip 1 (0.52); class 1 only in clip 2 (0.31). At the fixed 0.45: clip 0 is right (100);
    clip 1 has a false class (0); clip 2 misses its class (0): mean 33.3. Class 0: with 0.55 or 0.60, clip 1 says nothing and is perfect:
    66.7; at 0.65 clip 0 misses: 33.3. The highest best one: 0.60. Class 1: with 0.25 or 0.30 clip 2 is right: 66.7; the highest: 0.30.
    """
    on = np.ones((3, 2, 2), bool)
    clip = np.array([[0.62, 0.0], [0.52, 0.0], [0.0, 0.31]], np.float32)
    true = np.zeros((3, 2, 2), bool)
    true[0, 0] = true[2, 1] = True
    chosen = select_thresholds(on, clip, np.full(2, 0.45, np.float32), true)
    np.testing.assert_allclose(chosen, [0.6, 0.3], atol=1e-6)


def test_of_ten_equal_ones_the_highest_is_taken():
    """As published (>=), also for a class that is neither true nor predicted."""
    nothing = np.zeros((2, 1, 4), bool)
    assert select_thresholds(nothing, np.zeros((2, 1)), np.array([0.45]), nothing).tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_a_loop_over_whole_answers(dtype):
    """The score of every class and threshold from the metric itself, all other classes at the fixed one."""
    moved = 0
    for seed in range(12):
        generator = np.random.default_rng(seed)
        n, c, t = 9, 3, 5
        true = np.repeat(generator.random((n, c, 1)) < 0.5, t, axis=2) & (generator.random((n, c, t)) < 0.8)
        on = generator.random((n, c, t)) < 0.7
        clip = np.clip(0.45 + 0.25 * (true.any(axis=2) - 0.5) + generator.normal(0, 0.12, (n, c)), 0, 1).astype(dtype)
        clip[0, 0] = dtype(np.float32(0.55))  # on the grid: on from there
        fixed = np.array([0.45, 0.4, 0.5], dtype)
        expected = []
        for own in range(c):
            best, best_threshold = -1.0, None
            for threshold in GRID:
                gates = fixed.copy()
                gates[own] = np.float32(threshold)
                said = np.zeros_like(on)
                for number in range(n):
                    for kind in range(c):
                        said[number, kind] = on[number, kind] & (clip[number, kind] >= gates[kind])
                score = parsing_scores(said, said, true, true)["event/V"]
                if score >= best:
                    best, best_threshold = score, threshold
            expected.append(best_threshold)
        np.testing.assert_allclose(select_thresholds(on, clip, fixed, true), expected, atol=1e-6, err_msg=str(seed))
        moved += len(set(expected) - {0.7, 0.25})
    assert moved > 5, "the cases must not all end at a border"


@pytest.mark.parametrize(("shapes", "grid"), [(((0, 2, 3), (0, 2)), GRID), (((2, 2, 3), (2, 3)), GRID), (((2, 2, 3), (2, 2)), (0.5, 0.4))])
def test_what_does_not_fit_is_refused(shapes, grid):
    segments, clips = shapes
    with pytest.raises(ValueError, match=r"fit|rise"):
        select_thresholds(np.zeros(segments, bool), np.zeros(clips), np.zeros(2), np.zeros(segments, bool), grid)
