"""Exact starts, overlaps and trivial answers against sets of segments, and AVE's published test clips."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.matching import exact_starts, mean_overlap, trivial_answers

rng = np.random.default_rng(0)
SEGMENTS = rng.integers(3, 11, 200)
LENGTH = rng.integers(2, SEGMENTS)
TRUE = rng.integers(0, SEGMENTS - LENGTH + 1)
PRED = rng.integers(0, SEGMENTS - LENGTH + 1)


def overlap(one, other, length):
    a, b = set(range(one, one + length)), set(range(other, other + length))
    return len(a & b) / len(a | b)


def test_both_scores_by_loops():
    right = sum(p == t for p, t in zip(PRED, TRUE, strict=True))
    assert 0 < right < 200
    assert exact_starts(PRED, TRUE) == pytest.approx(100 * right / 200)
    expected = [overlap(p, t, n) for p, t, n in zip(PRED, TRUE, LENGTH, strict=True)]
    assert mean_overlap(PRED, TRUE, LENGTH) == pytest.approx(100 * np.mean(expected))


def test_trivial_answers_by_loops():
    exact, shared = {"first": [], "last": [], "chance": []}, {"first": [], "last": [], "chance": []}
    for true, length, segments in zip(TRUE, LENGTH, SEGMENTS, strict=True):
        fitting = [start for start in range(segments) if start + length <= segments]
        for name, answers in (("first", fitting[:1]), ("last", fitting[-1:]), ("chance", fitting)):
            exact[name].append(np.mean([answer == true for answer in answers]))
            shared[name].append(np.mean([overlap(answer, true, length) for answer in answers]))
    expected = {name: 100 * np.mean(values) for name, values in exact.items()}
    expected |= {f"{name}_iou": 100 * np.mean(values) for name, values in shared.items()}
    assert trivial_answers(TRUE, LENGTH, SEGMENTS) == pytest.approx(expected)


def test_by_hand():
    assert exact_starts([0, 3, 4], [0, 2, 4]) == pytest.approx(200 / 3)
    assert mean_overlap([0, 3, 9], [0, 2, 4], [2, 2, 2]) == pytest.approx(100 * (1 + 1 / 3 + 0) / 3)


@pytest.mark.parametrize("arguments", [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_what_does_not_pair_up_is_refused(arguments):
    with pytest.raises(ValueError, match="many"):
        exact_starts(*arguments)
    with pytest.raises(ValueError, match="many"):
        mean_overlap(*arguments, arguments[1])
    with pytest.raises(ValueError, match=">= 1"):
        mean_overlap([1], [1], [0])
