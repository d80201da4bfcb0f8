"""The contract of every registered task, on random scores of three clips, the last of them padded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.datasets.base import Event
from pipeline.tasks import TASKS, Task
from pipeline.tasks.avel import Scores
from pipeline.tasks.avvp import ParsingScores
from pipeline.tasks.cml import MatchingScores
from pipeline.tasks.dave import DetectionScores
from pipeline.tasks.labels import VideoTargets
from pipeline.tasks.tracks import Tracks
from pipeline.training.data import SplitData
from pipeline.training.pooling import pooled, pooled_scores

T, CLASSES = 5, ["Dog", "Cat", "Bell"]
EVENTS = [[Event("av", "Cat", 1.0, 3.0)], [Event("av", "Bell", 0.0, 5.0), Event("audio", "Dog", 2.0, 3.0)], [Event("av", "Dog", 0.0, 2.0)]]
MASK = torch.arange(T) < torch.tensor([5, 5, 4])[:, None]
N, C = len(EVENTS), len(CLASSES)


def probabilities(*size):
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


SCORES = {  # a new task adds an example of its scores here
    "avel": lambda: Scores(probabilities(N, T, C + 1).softmax(-1), attention=probabilities(N, T, 4).softmax(-1)),
    "avvp": lambda: ParsingScores(*probabilities(2, N, T, C), *probabilities(2, N, C), torch.full((N, 2, 2, C), 0.5)),
    "avvp_av": lambda: SCORES["avvp"](),
    "cml": lambda: MatchingScores(*probabilities(2, N, T, T, T)),
    "dave": lambda: DetectionScores(
        probabilities(N, 4, 2).cumsum(-1) * 2, torch.arange(N * 4).reshape(N, 4) % (C + 1) - 1, probabilities(N, 4), torch.full((N,), 0.5)
    ),
}


@pytest.fixture(params=TASKS.names())
def task(request) -> Task:
    return TASKS.get(request.param)


@pytest.fixture
def scores(request, task):
    return SCORES[request.node.callspec.params["task"]]()


@pytest.fixture
def truth(task):
    return task.row_targets([[vars(event) for event in of_row] for of_row in EVENTS], CLASSES, T, 1.0)


@pytest.fixture
def lines(task, scores, truth):
    """The table of one seed, with annotation rows 10, 11, 12, as `evaluate` stores it."""
    table = task.table(scores, task.decide(scores, MASK), truth, MASK)
    return table.assign(seed=0, row=table["clip_number"] + 10).drop(columns="clip_number")


def test_every_member_is_there(task):
    members = [name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")]
    assert len(members) > 15
    assert [name for name in members if not hasattr(task, name)] == []


def test_targets_and_answers_are_sliced_by_clips(task, scores, truth):
    part = torch.tensor([2, 0])
    decided = task.decide(scores, MASK)
    assert len(decided[part]) == 2
    some = task.score(decided[part], truth[part], MASK[part], C, 1.0)
    assert some[task.HEADLINE] is not None


def test_scores_of_folds_are_put_together_in_the_order_of_the_annotations(task, scores, truth):
    """As evaluation does it: whichever fold a clip was in, its lines and all metrics are the same."""
    whole = SplitData(None, MASK, truth, [10, 11, 12], ["a", "b", "c"], [], C, 1.0)
    chosen = [torch.tensor([1]), torch.tensor([], dtype=torch.int64), torch.tensor([0, 2])]
    parts = []
    for of_fold in chosen:
        rows, clips = [10 + number for number in of_fold.tolist()], ["abc"[number] for number in of_fold]
        parts.append(replace(whole, mask=MASK[of_fold], targets=truth[of_fold], rows=rows, clips=clips))
    together, joined = pooled(parts), pooled_scores([scores[of_fold] for of_fold in chosen if len(of_fold)], parts)
    assert (together.rows, together.clips) == (whole.rows, whole.clips)
    pd.testing.assert_frame_equal(
        task.table(joined, task.decide(joined, together.mask), together.targets, together.mask),
        task.table(scores, task.decide(scores, MASK), truth, MASK),
    )


def test_a_headline_has_an_interval_over_clips_and_over_groups_of_them(task, lines):
    alone, grouped = (task.compare(lines, None, groups) for groups in (None, pd.Series({10: 0, 11: 0, 12: 1})))
    assert alone.mean == pytest.approx(grouped.mean)
    assert alone.low <= alone.mean <= alone.high
    assert task.compare(lines, lines, pd.Series({10: 0, 11: 0, 12: 1})) == (0, 0, 0)
    one = task.compare(lines, None, pd.Series({10: 7, 11: 7, 12: 7}))
    assert one.low == pytest.approx(one.mean)
    assert one.high == pytest.approx(one.mean)


def test_the_metrics_are_plain_json_with_headline_and_secondary_metrics(task, scores, truth):
    metrics = task.score(task.decide(scores, MASK), truth, MASK, C, 1.0)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert isinstance(metrics[task.HEADLINE], float)
    assert {*task.SECONDARY} <= {*metrics}


def test_the_table_names_the_clip_of_each_line(task, scores, truth):
    table = task.table(scores, task.decide(scores, MASK), truth, MASK)
    numbers = table["clip_number"].to_numpy()
    assert (np.diff(numbers) >= 0).all()
    assert {*numbers.tolist()} <= {0, 1, 2}
    assert {*task.COMPARED, *task.SHOWN, *task.CONFIDENT} <= {*table.columns}


def test_a_run_compared_with_itself_makes_no_difference(task, lines):
    compared = pd.concat([lines, lines.assign(seed=1)])[["row", "seed", *task.COMPARED]]
    assert task.compare(compared, compared) == (0.0, 0.0, 0.0)
    assert task.compare(compared, compared.assign(row=compared["row"] + 100)) is None
    assert task.clip_scores(compared)["score"].between(0, 100).all()


def test_confidences_are_probabilities_and_whether_they_came_true(task, lines):
    found = task.confidences(lines[["row", "seed", *task.CONFIDENT]])
    assert bool(found) == bool(task.CONFIDENT)
    for confidence, right in found.values():
        assert confidence.shape == right.shape
        assert ((confidence >= 0) & (confidence <= 1)).all()
        assert right.dtype == bool


def test_tracks_and_lanes_of_one_clip(task, scores, lines):
    if not task.has_tracks:
        assert task.attention(scores) is None
        for refusing in (task.eventful, lambda lines: task.lanes(lines, C), lambda lines: task.true_classes(lines, C)):
            with pytest.raises(TypeError, match="no tracks"):
                refusing(lines)
        return
    assert {*task.eventful(lines)} <= {10, 11, 12}
    weights = task.attention(scores)
    assert weights is None or weights.shape[:2] == (N, T)
    for clip in range(N):
        found = task.tracks(scores[clip : clip + 1], MASK[clip : clip + 1], CLASSES)
        of_clip = lines[lines["row"] == 10 + clip]
        again, true = task.table_tracks(of_clip, CLASSES)
        assert isinstance(found, Tracks)
        for name in found.active:
            np.testing.assert_array_equal(found.active[name], again.active[name])
            assert true[name].shape == (T, C)
        for lane in task.lanes(of_clip[["row", *task.SHOWN]], C):
            assert lane.track in found.active
            assert len(lane.scores) == T
            assert all(0 <= start < end <= T and 0 <= label < C for start, end, label, _ in lane.truth + lane.spans)
        assert {*task.true_classes(of_clip, C)} <= {*range(C)}


def test_weak_labels_contain_no_times(task):
    events = [[vars(event) for event in of_row] for of_row in EVENTS]
    if task is TASKS.get("cml"):
        with pytest.raises(ValueError, match="no weak labels"):
            task.video_targets(events, CLASSES, T, 1.0)
        return
    weak = task.video_targets(events, CLASSES, T, 1.0)
    assert isinstance(weak, VideoTargets)
    assert weak.labels.shape == (N, C + 1)
