"""The search for thresholds, against trying every cut."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from pipeline.labels.settings import Teacher
from pipeline.labels.thresholds import given, of_background, searched, soft_labels


def f1(on, truth) -> float:
    total = on.sum() + truth.sum()
    return 2 * (on & truth).sum() / total if total else float("nan")


def plain_search(scores, told, truth) -> float:
    """UWAV's rule: all seconds of all clips, -inf in clips without the label; the first best cut from below."""
    pooled = np.where(told[:, None], scores, -np.inf).ravel()
    levels = np.unique(pooled)
    values = [f1(pooled >= level, truth.ravel()) for level in levels]
    if np.isnan(values).any():
        return -np.inf
    best = int(np.argmax(values))
    return -np.inf if best == 0 else (levels[best - 1] + levels[best]) / 2


@pytest.mark.parametrize("seed", range(30))
def test_the_search_tries_every_cut(seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=(5, 4, 3)), 1).astype(np.float32)  # with equal scores among them
    told = rng.random((5, 3)) < 0.6
    truth = (scores + rng.normal(size=scores.shape) > rng.normal()) & (told[:, None] | (rng.random((5, 1, 3)) < 0.2))
    found = searched(scores, told, truth, np.ones((5, 4), bool))
    expected = [plain_search(scores[..., number], told[:, number], truth[..., number]) for number in range(3)]
    np.testing.assert_allclose(found.hard, expected, rtol=1e-6)
    finite = np.isfinite(found.hard)
    assert_array_equal(found.soft[finite], found.hard[finite])
    assert_array_equal(found.soft[~finite], scores.min(axis=(0, 1))[~finite] - 1)


def test_padding_and_classes_without_a_true_segment():
    scores = np.array([[[3.0, 1.0], [2.0, 1.0], [9.0, -9.0]]], np.float32)
    truth = np.array([[[True, False], [False, False], [False, False]]])
    found = searched(scores, np.ones((1, 2), bool), truth, np.array([[True, True, False]]))
    assert found.hard[0] == 2.5  # the padded 9 would be a false one above
    assert np.isneginf(found.hard[1])
    assert found.soft.tolist() == [2.5, 0.0]


def test_the_background_is_what_clips_without_the_label_score():
    scores = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    told = np.array([[True, True, False], [False, True, False], [True, True, False]] * 2)
    valid = np.ones((6, 4), bool)
    valid[1, 2:] = False
    found = of_background(scores, told, valid, 0.75)
    background = np.concatenate([scores[1, :2, 0], scores[4, :, 0]])
    assert found.hard[0] == found.soft[0] == np.quantile(background, 0.75)
    assert np.isneginf(found.hard[1])  # every clip has it
    assert found.soft[1] == scores[..., 1][valid].min() - 1
    assert (scores[..., 2][valid] < found.hard[2]).mean() == pytest.approx(0.75, abs=0.05)


def test_given_thresholds_of_probabilities_are_logits():
    teacher = {"class_names": "names.csv", "classes": {"Dog": ["Bark"], "Cat": ["Meow"]}}
    found = given("audio", Teacher(**teacher, thresholds={"Cat": 0.9, "Dog": 0.5}), ["Dog", "Cat"])
    np.testing.assert_allclose(found.hard, [0, np.log(9)], atol=1e-6)
    found = given("audio", Teacher(**teacher, thresholds=0.5), ["Dog", "Cat"])
    np.testing.assert_allclose(found.hard, [0, 0], atol=1e-6)


def test_soft_labels_are_one_half_at_the_threshold_and_one_where_no_teacher_answers():
    found = given("audio", Teacher(texts="t.npz", thresholds=3.0), ["Dog"])
    np.testing.assert_allclose(soft_labels(np.array([3.0, 5.0, np.inf, -1e9], np.float32), found, 2.0), [0.5, 1 / (1 + np.exp(-1)), 1, 0])
