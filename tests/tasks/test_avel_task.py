"""Targets, decision and evaluation of audio-visual event localization."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputProblems
from pipeline.metrics.segments import segment_accuracy
from pipeline.registry import UnknownName
from pipeline.tasks import TASKS, avel
from pipeline.tasks.avel import Scores

AVE = Path(__file__).resolve().parents[3] / "shared" / "annotations" / "ave"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(1, 0, 5)], [1, 1, 1, 1, 1]),
        ([(0, 2, 4)], [3, 3, 0, 0, 3]),
        ([], [3, 3, 3, 3, 3]),
        ([(2, 0, 0)], [3, 3, 3, 3, 3]),  # AVE's row of length 0
        ([(2, 0.5, 2.4)], [2, 2, 3, 3, 3]),  # half of segment 0 counts, 0.4 of segment 2 does not
        ([(2, 0.51, 1)], [3, 3, 3, 3, 3]),
        ([(1, 3.2, 99)], [3, 3, 3, 1, 1]),  # cut at the clip's end
        ([(0, 0, 1.4), (1, 1.4, 3)], [0, 1, 1, 3, 3]),
        ([(1, 0, 0.5), (0, 0.5, 1)], [1, 3, 3, 3, 3]),  # equal halves: the first
        ([(0, 0, 0.3), (0, 0.5, 0.7)], [3, 3, 3, 3, 3]),  # neither covers half
    ],
)
def test_targets_by_hand(events, expected):
    result = avel.targets_of_events([events], segments=5, num_classes=3)
    assert result.segments.tolist() == [expected]
    assert result.segments.dtype == result.video.dtype == torch.int64
    present = [label for label in expected if label < 3]
    assert result.video.tolist() == [max(present, key=lambda label: (present.count(label), -label)) if present else 3]


def test_targets_of_the_longer_class_and_of_other_segment_lengths():
    assert avel.targets_of_events([[(2, 0, 1), (0, 1, 4)]], 5, 3).video.tolist() == [0]
    assert avel.targets_of_events([[(0, 0.96, 2.88)]], 4, 1, segment_seconds=0.96).segments.tolist() == [[1, 0, 0, 1]]
    assert avel.targets_of_events([], 5, 3).segments.shape == (0, 5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 2))
def test_whole_seconds_are_exact(start, length, label):
    end = min(start + length, 10)
    result = avel.targets_of_events([[(label, float(start), float(end))]], 10, 3)
    assert result.segments[0].tolist() == [label if start <= t < end else 3 for t in range(10)]


def test_every_bad_event_is_named():
    with pytest.raises(InputProblems) as caught:
        avel.targets_of_events([[(0, 1, 2)], [(3, 0, 1)], [(0, 5, 4), (-1, 0, 1), (0, float("nan"), 1), (1, -1, 1)]], 5, 3)
    assert len(caught.value.problems) == 5
    assert "clip 1" in caught.value.problems[0]
    assert all("clip 2" in problem for problem in caught.value.problems[1:])


def test_two_head_rule_is_strict_at_one_half():
    scores = Scores(
        segments=torch.tensor([[[0.9, 0.05, 0.05]] * 4]),  # ignored where both heads exist
        event=torch.tensor([[0.5, 0.500001, 0.9, 0.9]]),
        classes=torch.tensor([[0.2, 0.8]]),
    )
    mask = torch.tensor([[True, True, True, False]])
    labels = avel.decide(scores, mask)
    assert labels.tolist() == [[2, 1, 1, 2]]
    assert labels.dtype == torch.int64


def test_without_heads_the_segment_argmax_decides():
    scores = Scores(segments=torch.tensor([[[0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]]))
    assert avel.decide(scores, torch.tensor([[True, True, False]])).tolist() == [[1, 2, 2]]


def test_evaluate_by_hand():
    true = np.array([[2, 0, 0, 2], [1, 1, 1, 1], [2, 2, 2, 2], [0, 0, 2, 2]])
    pred = np.array([[0, 0, 0, 2], [2, 1, 0, 2], [2, 0, 2, 2], [2, 2, 2, 2]])
    mask = np.ones((4, 4), dtype=bool)
    mask[3, 3] = False
    result = avel.evaluate(pred, true, mask, num_classes=2, segment_seconds=2.0)
    assert result["accuracy"] == result[avel.HEADLINE] == pytest.approx(100 * 8 / 15)
    assert result["event_f1"] == pytest.approx(100 * 2 * 4 / (6 + 8))
    assert result["background_f1"] == pytest.approx(100 * 2 * 5 / (9 + 7))
    # starts: clip 0 off by one, clip 1 by one; ends: 0 and one. Clips 2 and 3 have no event on one side.
    assert result["start_error_seconds"] == pytest.approx(2.0)
    assert result["end_error_seconds"] == pytest.approx(1.0)
    assert result["boundary_clips"] == 2
    assert result["class_accuracy"] == pytest.approx([50.0, 25.0, 100 * 5 / 7])
    assert result["confusion"] == [[2, 0, 2], [1, 1, 2], [2, 0, 5]]
    assert result["baseline_background"] == pytest.approx(100 * 7 / 15)
    assert result["baseline_oracle_class"] == pytest.approx(100 * (2 + 4 + 4 + 2) / 15)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.fault(33)
def test_evaluate_without_any_event():
    background = torch.full((2, 3), 4)
    result = avel.evaluate(background, background, torch.ones(2, 3, dtype=torch.bool), 4)
    assert result["accuracy"] == result["event_f1"] == result["background_f1"] == 100
    assert result["start_error_seconds"] is None
    assert result["boundary_clips"] == 0
    assert result["class_accuracy"] == [None, None, None, None, 100.0]


def test_padding_counts_nowhere():
    generator = np.random.default_rng(0)
    true, pred = generator.integers(0, 4, (2, 6, 10))
    mask = np.arange(10) < generator.integers(1, 10, 6)[:, None]
    other = np.where(mask, pred, (pred + 1) % 4)
    truth = np.where(mask, true, (true + 1) % 4)
    assert avel.evaluate(pred, true, mask, 3) == avel.evaluate(other, truth, mask, 3)


def test_registered_by_name():
    task = TASKS.get("avel")
    assert task is avel
    with pytest.raises(UnknownName, match="'avel'"):
        TASKS.get("avell")


@pytest.mark.skipif(not AVE.is_dir(), reason="the published AVE annotations (../shared/annotations/ave) are not here")
def test_the_trivial_baselines_of_the_ave_test_set():
    """17.79 and 82.21 of 4,020 segments, as counted from the annotation files."""
    lines = [line.split("&") for line in (AVE / "testSet.txt").read_text(encoding="utf-8").splitlines() if line]
    names = sorted({line[0] for line in lines})
    assert len(lines) == 402
    assert len(names) == 28
    true = avel.targets_of_events([[(names.index(name), float(start), float(end))] for name, _, _, start, end in lines], 10, 28)
    assert true.segments.shape == (402, 10)
    result = avel.evaluate(np.full((402, 10), 28), true.segments, np.ones((402, 10)), 28)
    assert round(result["accuracy"], 2) == round(result["baseline_background"], 2) == 17.79
    assert round(result["baseline_oracle_class"], 2) == 82.21
    oracle = true.video[:, None].expand(402, 10)
    assert round(segment_accuracy(oracle, true.segments), 2) == 82.21


def test_rows_become_targets_by_their_audio_visual_events_alone():
    av = {"modality": "av", "label": "Cat", "onset": 1.0, "offset": 3.0}
    audio = {"modality": "audio", "label": "Dog", "onset": 0.0, "offset": 4.0}
    truth = avel.row_targets([[av, audio], [audio], []], ["Dog", "Cat"], 4, 1.0)
    assert truth.segments.tolist() == [[2, 1, 1, 2], [2, 2, 2, 2], [2, 2, 2, 2]]
    assert truth.video.tolist() == [1, 2, 2]


def test_a_label_that_no_class_has_is_named():
    with pytest.raises(InputProblems, match=r"'Bird'.*Dog, Cat"):
        avel.row_targets([[{"modality": "av", "label": "Bird", "onset": 0.0, "offset": 1.0}]], ["Dog", "Cat"], 4, 1.0)


def test_the_table_has_one_line_per_segment_in_order():
    probabilities = torch.tensor([[[0.7, 0.1, 0.2], [0.1, 0.6, 0.3]], [[0.0, 0.0, 1.0], [0.5, 0.4, 0.1]]])
    scores, mask = Scores(segments=probabilities), torch.tensor([[True, True], [True, False]])
    truth = avel.targets_of_events([[(0, 0.0, 1.0)], []], 2, 2)
    table = avel.table(scores, avel.decide(scores, mask), truth, mask)
    assert table["segment"].tolist() == [0, 1, 0, 1]
    assert table["valid"].tolist() == [True, True, True, False]
    assert table["true"].tolist() == [0, 2, 2, 2]
    assert table["predicted"].tolist() == [0, 1, 2, 2]
    np.testing.assert_allclose(table["event"], [0.8, 0.7, 0.0, 0.9], atol=1e-6)
    np.testing.assert_allclose(np.stack(table["scores"]), probabilities.flatten(0, 1).numpy())


def av(label, onset, offset, modality="av"):
    return {"modality": modality, "label": label, "onset": float(onset), "offset": float(offset)}


def test_video_targets_name_the_classes_and_not_the_time():
    rows = [
        [av("Dog", 1, 3)],
        [av("Cat", 0, 4), av("Dog", 0, 0.1)],  # two classes, whatever their lengths
        [av("Cat", 0, 4, "audio")],  # audio only
        [av("Cat", 2, 2)],  # AVE's row of length 0
        [av("Dog", 4, 9)],  # behind the last segment
        [],
    ]
    labels = avel.video_targets(rows, ["Dog", "Cat"], 4, 1.0).labels
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert avel.video_targets([], ["Dog", "Cat"], 4, 1.0).labels.shape == (0, 3)


def test_labels_of_the_clip_count_where_no_event_is_known():
    rows = [[], [av("Cat", 0, 4, "audio")], [av("Dog", 1, 3)], []]
    told = [["Cat", "Dog"], ["Cat"], ["Cat"], []]
    labels = avel.video_targets(rows, ["Dog", "Cat"], 4, 1.0, clip_labels=told).labels
    assert labels.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 9.9), st.floats(0.01, 10)), max_size=3), st.floats(0, 9.9), st.floats(0.01, 10))
def test_weak_labels_do_not_depend_on_time(events, onset, length):
    """The same classes at any other place and length: the same label."""
    classes = ["A", "B", "C"]
    here = [av(classes[label], start, start + duration) for label, start, duration in events]
    there = [av(event["label"], onset, onset + length) for event in here]
    first, second = (avel.video_targets([row], classes, 10, 1.0).labels for row in (here, there))
    assert torch.equal(first, second)


def test_proportions_are_the_shares_of_the_segments():
    rows = [[av("Cat", 1, 4), av("Dog", 0, 1)], [av("Dog", 0, 2)], []]
    labels = avel.video_targets(rows, ["Dog", "Cat"], 4, 1.0, proportions=True).labels
    assert labels.tolist() == [[0.25, 0.75, 0], [0.5, 0, 0.5], [0, 0, 1]]


def test_bad_events_are_named_under_weak_supervision_too():
    with pytest.raises(InputProblems, match="'Bird'"):
        avel.video_targets([[av("Bird", 0, 1)]], ["Dog"], 4, 1.0)
    with pytest.raises(InputProblems, match="clip 1"):
        avel.video_targets([[], [av("Dog", 2, 1)]], ["Dog"], 4, 1.0)


def test_the_two_head_rule_may_find_a_whole_clip_to_be_background():
    """A weakly supervised clip-level head has C+1 labels."""
    scores = Scores(torch.zeros(2, 2, 3), event=torch.full((2, 2), 0.9), classes=torch.tensor([[0.2, 0.2, 0.6], [0.5, 0.1, 0.4]]))
    assert avel.decide(scores, torch.ones(2, 2, dtype=torch.bool)).tolist() == [[2, 2], [0, 0]]
