"""Segment metrics against naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.metrics.segments import boundary_errors, clip_accuracy, confusion, f1_score, oracle_class, segment_accuracy

LABELS = 4
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6))


@st.composite
def labelled(draw):
    shape = draw(SHAPES)
    pred = draw(arrays(np.int64, shape, elements=st.integers(0, LABELS - 1)))
    true = draw(arrays(np.int64, shape, elements=st.integers(0, LABELS - 1)))
    mask = draw(arrays(np.bool_, shape))
    return pred, true, mask


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_metrics_equal_naive_loops(case):
    pred, true, mask = case
    cells = [(n, t) for n in range(pred.shape[0]) for t in range(pred.shape[1]) if mask[n, t]]
    table = np.zeros((LABELS, LABELS), dtype=int)
    hits = both = predicted = actual = 0
    for n, t in cells:
        table[true[n, t], pred[n, t]] += 1
        hits += pred[n, t] == true[n, t]
        predicted += pred[n, t] < 2
        actual += true[n, t] < 2
        both += pred[n, t] < 2 and true[n, t] < 2
    np.testing.assert_array_equal(confusion(pred, true, LABELS, mask), table)
    precision, recall = both / max(predicted, 1), both / max(actual, 1)
    f1 = 100.0 if predicted + actual == 0 else 200 * precision * recall / max(precision + recall, 1e-300)
    assert f1_score(pred < 2, true < 2, mask) == pytest.approx(f1)
    if cells:
        assert segment_accuracy(pred, true, mask) == pytest.approx(100 * hits / len(cells))
    else:
        with pytest.raises(ValueError, match="segments"):
            segment_accuracy(pred, true, mask)
    for n, value in enumerate(clip_accuracy(pred, true, mask)):
        own = [pred[n, t] == true[n, t] for m, t in cells if m == n]
        assert np.isnan(value) if not own else value == pytest.approx(100 * sum(own) / len(own))


def test_hand_enumerated():
    pred, true = [[0, 0, 2], [1, 2, 2]], [[0, 1, 2], [1, 1, 2]]
    assert segment_accuracy(pred, true) == pytest.approx(100 * 4 / 6)
    assert confusion(pred, true, 3).tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 2]]
    event_pred, event_true = np.asarray(pred) < 2, np.asarray(true) < 2
    assert f1_score(event_pred, event_true) == pytest.approx(100 * 2 * 3 / (3 + 4))


def test_one_segment_of_the_ave_test_set_is_a_fortieth_of_a_percent():
    true = np.zeros((402, 10), dtype=int)
    pred = true.copy()
    pred[7, 3] = 1
    assert 100 - segment_accuracy(pred, true) == pytest.approx(100 / 4020)


def test_shapes_must_agree():
    for function in (segment_accuracy, f1_score, clip_accuracy):
        with pytest.raises(ValueError, match="shape"):
            function([[0, 1]], [[0, 1, 2]])
    with pytest.raises(ValueError, match="shape"):
        segment_accuracy([0, 1], [0, 1])


def test_labels_must_be_known():
    with pytest.raises(ValueError, match=r"predicted.* 0 .* 3\b.*0\.\.2"):
        confusion([[0, 3]], [[0, 1]], 3)
    with pytest.raises(ValueError, match="true"):
        confusion([[0, 1]], [[-1, 1]], 3)


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_boundary_errors_equal_a_naive_loop(case):
    pred, true, _ = (part > 1 for part in case)
    starts, ends = [], []
    for said, is_so in zip(pred, true, strict=True):
        if said.any() and is_so.any():
            starts.append(abs(min(np.flatnonzero(said)) - min(np.flatnonzero(is_so))))
            ends.append(abs(max(np.flatnonzero(said)) - max(np.flatnonzero(is_so))))
    found = boundary_errors(pred, true, 0.5)
    assert found["boundary_clips"] == len(starts)
    assert found["start_error_seconds"] == (pytest.approx(0.5 * np.mean(starts)) if starts else None)
    assert found["end_error_seconds"] == (pytest.approx(0.5 * np.mean(ends)) if ends else None)


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_the_oracle_is_each_clips_most_frequent_event(case):
    _, true, mask = case
    background = LABELS - 1
    for answer, labels, counted in zip(oracle_class(true, mask, background), true, mask, strict=True):
        events = labels[counted & (labels != background)].tolist()
        expected = min(events, key=lambda label: (-events.count(label), label)) if events else background
        assert (answer == expected).all()
