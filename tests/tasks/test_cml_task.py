"""Cross-modality localization: questions, answers and scores, by hand and by naive loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.base import NO_CLIPS
from pipeline.errors import InputProblems, PipelineError
from pipeline.tasks import cml
from pipeline.tasks.cml import MatchingScores, MatchingTargets

T = 5
EVENTS = torch.tensor(
    [
        [0, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],  # fills the clip
        [0, 0, 0, 1, 0],  # a single segment
        [1, 1, 0, 1, 0],  # broken
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],  # of four valid segments
        [1, 1, 0, 0, 0],  # of two valid segments: fills
    ],
    dtype=torch.bool,
)
MASK = torch.arange(T) < torch.tensor([5, 5, 5, 5, 5, 4, 2])[:, None]
TRUTH = MatchingTargets(EVENTS, EVENTS.any(dim=1, keepdim=True).float().repeat(1, 3))


def scores() -> MatchingScores:
    generator = torch.Generator().manual_seed(0)
    return MatchingScores(*(torch.randn(len(EVENTS), T, T, T, generator=generator) for _ in range(2)))


def event(label, onset, offset, modality="av"):
    return {"modality": modality, "label": label, "onset": onset, "offset": offset}


def test_targets_by_hand():
    rows = [[event("b", 1, 3)], [], [event("a", 0, 1.4), event("b", 3.5, 5)], [event("a", 0, 5, "a")]]
    truth = cml.row_targets(rows, ["a", "b"], 5, 1.0)
    assert truth.event.int().tolist() == [[0, 1, 1, 0, 0], [0] * 5, [1, 0, 0, 1, 1], [0] * 5]
    assert truth.labels.tolist() == [[0, 1], [0, 0], [1, 1], [0, 0]]
    assert cml.row_targets([], ["a"], 5, 1.0).event.shape == (0, 5)
    with pytest.raises(InputProblems, match="'z'"):
        cml.row_targets([[event("z", 0, 1)]], ["a"], 5, 1.0)


def test_a_clip_asks_if_its_event_is_one_run_that_does_not_fill_it():
    asking = cml.questions(TRUTH, MASK)
    assert asking.asked.tolist() == [True, False, False, False, False, True, False]
    assert (asking.start[0], asking.length[0], asking.segments[0]) == (1, 2, 5)
    assert (asking.start[5], asking.length[5], asking.segments[5]) == (1, 3, 4)


def test_the_best_window_that_fits_is_the_answer_the_first_of_equals():
    said = scores()
    said.audio_to_visual[0, 1, 1] = torch.tensor([0.0, 2, 1, 2, 9])  # length 2: the window at 4 reaches beyond the clip
    said.visual_to_audio[5, 2, 1] = torch.tensor([0.0, -1, 5, 5, 5])  # length 3 of four segments: only 0 and 1 fit
    decided = cml.decide(said, MASK)
    assert decided.shape == (7, 2, T, T)
    assert decided[0, 0, 1, 1] == 1
    assert decided[5, 1, 2, 1] == 0
    for clip, length, question in np.ndindex(7, T, T):
        fitting = [start for start in range(T) if start + length + 1 <= int(MASK[clip].sum())]
        if fitting:
            best = max(fitting, key=lambda start: (float(said.audio_to_visual[clip, length, question, start]), -start))
            assert decided[clip, 0, length, question] == best


def test_every_number_by_hand():
    """Clip 0: event [1, 3), answers 1 and 2. Clip 5: [1, 4) of four, answers 0 and 1."""
    decided = torch.zeros(7, 2, T, T, dtype=torch.int64)
    decided[0, :, 1, 1] = torch.tensor([1, 2])
    decided[5, :, 2, 1] = torch.tensor([0, 1])
    metrics = cml.score(decided, TRUTH, MASK, 3, 1.0)
    expected = {
        "accuracy": 50.0, "a2v": 50.0, "v2a": 50.0, "a2v_iou": 100 * (1 + 2 / 4) / 2, "v2a_iou": 100 * (1 / 3 + 1) / 2, "asked": 2,
        "baseline_first": 0.0, "baseline_last": 50.0, "baseline_chance": 100 * (1 / 4 + 1 / 2) / 2,
        "baseline_first_iou": 100 * (1 / 3 + 1 / 2) / 2, "baseline_last_iou": 100 * (0 / 4 + 1) / 2,
        "baseline_chance_iou": 100 * ((1 / 3 + 1 + 1 / 3 + 0) / 4 + (1 / 2 + 1) / 2) / 2,
    }  # fmt: skip
    assert metrics == pytest.approx(expected)
    json.dumps(metrics, allow_nan=False)


def test_the_table_holds_one_line_per_question_and_agrees_with_the_score():
    decided = cml.decide(scores(), MASK)
    lines = cml.table(scores(), decided, TRUTH, MASK)
    assert len(lines) == 2 * len(EVENTS)
    asked = lines[lines["valid"]]
    assert asked["direction"].tolist() == ["a2v", "v2a"] * 2
    assert asked["true"].tolist() == [1] * 4
    assert asked["length"].tolist() == [2, 2, 3, 3]
    right = (asked["true"] == asked["predicted"]).mean()
    assert 100 * right == pytest.approx(cml.score(decided, TRUTH, MASK, 3, 1.0)["accuracy"])


@pytest.mark.fault(33)
def test_a_split_that_asks_nothing_is_refused():
    truth = MatchingTargets(EVENTS[1:5], TRUTH.labels[1:5])
    with pytest.raises(PipelineError, match="4 clips"):
        cml.score(torch.zeros(4, 2, T, T, dtype=torch.int64), truth, MASK[1:5], 3, 1.0)


def test_the_trivial_answers_on_aves_test_clips(shared):
    """Published order file and labels: all 402 clips have questions; last window 46.8, first 35.3, chance 20.8."""
    annotations = shared / "annotations" / "ave"
    settings = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=annotations, segments=10, segment_seconds=1.0, split="match")
    index = build_index(settings)
    events = [[vars(one) for one in row.events] for row in index.rows if row.split == "test"]
    truth = cml.row_targets(events, index.classes, 10, 1.0)
    metrics = cml.score(torch.zeros(402, 2, 10, 10, dtype=torch.int64), truth, torch.ones(402, 10, dtype=torch.bool), 28, 1.0)
    assert metrics["asked"] == 402
    assert metrics["accuracy"] == metrics["baseline_first"]
    assert [round(metrics[f"baseline_{name}"], 1) for name in ("first", "last", "chance")] == [35.3, 46.8, 20.8]
