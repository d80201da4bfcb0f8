"""Audio-visual video parsing: targets, decisions, the stored table, and how the report reads it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.errors import InputProblems
from pipeline.metrics.parsing import KEYS, parsing_scores
from pipeline.tasks import TASKS, avvp
from pipeline.tasks.avvp import ParsingScores, ParsingTargets

CLASSES = ["Speech", "Dog", "Car"]


def event(modality, label, onset, offset):
    return {"modality": modality, "label": label, "onset": onset, "offset": offset}


EVENTS = [
    [event("audio", "Dog", 0.0, 2.0), event("visual", "Dog", 1.0, 4.0), event("audio", "Speech", 3.0, 4.0)],
    [event("av", "Car", 1.0, 3.0), event("audio", "Car", 2.0, 4.0)],
    [],
]
LABELS = [["Dog", "Speech"], ["Car", "Dog"], []]


def test_truth_is_what_each_modality_has():
    truth = avvp.row_targets(EVENTS, CLASSES, 4, 1.0, clip_labels=LABELS)
    assert TASKS.get("avvp") is avvp
    assert truth.audio.int().tolist() == [
        [[0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]],
        [[0, 0, 0]] * 4,
    ]
    assert truth.visual.int().tolist() == [
        [[0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]],
        [[0, 0, 0]] * 4,
    ]
    assert truth.labels.int().tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert avvp.row_targets(EVENTS, CLASSES, 4, 1.0).labels.int().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_training_sees_only_classes():
    told = avvp.video_targets([[], [], []], CLASSES, 4, 1.0, clip_labels=LABELS)
    assert told.labels.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert avvp.video_targets(EVENTS, CLASSES, 4, 1.0).labels[:, :3].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    with pytest.raises(ValueError, match="proportion"):
        avvp.video_targets(EVENTS, CLASSES, 4, 1.0, proportions=True)


@pytest.mark.parametrize("targets", [avvp.row_targets, avvp.video_targets])
def test_unknown_labels_are_named_all_at_once(targets):
    with pytest.raises(InputProblems, match=r"'Bird'(.|\n)*'Cow'"):
        targets([[event("audio", "Bird", 0.0, 1.0)]], CLASSES, 4, 1.0, clip_labels=[["Cow"]])


def scores_of(audio, visual, clip_audio, clip_visual, thresholds):
    """Of one clip of T segments and C classes, from lists."""
    return ParsingScores(*(torch.tensor([part], dtype=torch.float32) for part in (audio, visual, clip_audio, clip_visual, thresholds)))


def test_a_class_is_on_where_the_segment_and_the_clip_reach_their_thresholds():
    scores = scores_of(
        audio=[[0.5, 0.9], [0.4, 0.2], [0.9, 0.9]],
        visual=[[0.3, 0.9], [0.25, 0.6], [0.9, 0.9]],
        clip_audio=[0.5, 0.4],
        clip_visual=[0.45, 0.7],
        thresholds=[[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.7], [0.45, 0.7]]],  # by class for the visual ones
    )
    on = avvp.decide(scores, torch.tensor([[True, True, False]]))
    assert on.shape == (1, 2, 3, 2)
    assert on[0, 0].int().tolist() == [[1, 0], [0, 0], [0, 0]]  # class 2 below the clip's threshold; last segment padding
    assert on[0, 1].int().tolist() == [[1, 1], [1, 0], [0, 0]]


def random_answers(clips=7, segments=5, seed=0):
    """(scores, decisions, truth, mask) with a clip that is shorter and one without any event."""
    generator = torch.Generator().manual_seed(seed)
    size = (clips, segments, len(CLASSES))
    audio, visual = (torch.rand(size, generator=generator) < 0.4 for _ in range(2))
    audio[3], visual[3] = False, False
    truth = ParsingTargets(audio, visual, audio.any(1) | visual.any(1))
    mask = torch.ones(clips, segments, dtype=torch.bool)
    mask[1, 3:] = False
    p = [torch.rand(size, generator=generator) for _ in range(2)]
    clip = torch.rand(clips, len(CLASSES), generator=generator)
    scores = ParsingScores(*p, clip, clip, torch.full((clips, 2, 2, len(CLASSES)), 0.3))
    return scores, avvp.decide(scores, mask), truth, mask


def arrays(decided, truth):
    return [table.transpose(1, 2).numpy() for table in (decided[:, 0], decided[:, 1], truth.audio, truth.visual)]


def test_metrics_are_plain_json_with_scores_of_trivial_answers():
    _, decided, truth, mask = random_answers()
    metrics = avvp.score(decided, truth, mask, len(CLASSES), 1.0)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    expected = parsing_scores(*arrays(decided, truth), mask=mask.numpy())
    present = parsing_scores(*arrays(decided, truth), empty="skip", mask=mask.numpy())
    for key in KEYS:
        assert metrics[key] == pytest.approx(expected[key]), key
        assert metrics[f"present/{key}"] == pytest.approx(present[key]), key
        low, high = metrics["intervals"][key]
        assert low <= metrics[key] <= high
        assert len(metrics["classes"][key]) == len(CLASSES)
    for name, keys in (("mean_of_ten", "A V AV Type@AV Event@AV"), ("mean_of_ten_new", "Ao Vo AV Type@AVo Event@AVo")):
        ten = [expected[f"{level}/{key}"] for level in ("segment", "event") for key in keys.split()]
        assert metrics[name] == pytest.approx(np.mean(ten))
    nothing = torch.zeros_like(decided)
    assert metrics["trivial"]["nothing"] == {
        key: value for key, value in avvp.score(nothing, truth, mask, 3, 1.0).items() if key in metrics["trivial"]["nothing"]
    }
    everywhere = truth.labels[:, None, None].expand_as(decided)
    assert metrics["baseline_weak_label"] == avvp.score(everywhere, truth, mask, 3, 1.0)[avvp.HEADLINE]
    assert metrics["baseline_nothing"] == metrics["trivial"]["nothing"][avvp.HEADLINE] < metrics["baseline_weak_label"]


@pytest.mark.fault(33)
def test_where_nothing_can_be_scored_there_is_no_number():
    none = torch.zeros(2, 2, 5, 3, dtype=torch.bool)
    truth = ParsingTargets(none[:, 0], none[:, 1], none[:, 0, 0])
    metrics = avvp.score(none, truth, torch.ones(2, 5, dtype=torch.bool), 3, 1.0)
    assert metrics["segment/Vo"] == 100
    assert metrics["present/segment/Vo"] is None
    assert metrics["micro/event/A"] is None
    json.dumps(metrics, allow_nan=False)


def written(seed=0, path=None):
    """The table as evaluate stores it, of two seeds, read back from a file where one is given."""
    parts = []
    for number in range(2):
        scores, decided, truth, mask = random_answers(seed=seed)
        if number:
            decided = decided & False
        lines = avvp.table(scores, decided, truth, mask)
        parts.append(lines.assign(seed=number, row=np.repeat(np.arange(7) + 10, 5)))
    lines = pd.concat(parts, ignore_index=True)
    if path is None:
        return lines
    lines.to_parquet(path, index=False)
    return pd.read_parquet(path)


def test_the_written_table_gives_the_same_tracks_and_the_truth(tmp_path):
    scores, decided, truth, mask = random_answers()
    lines = written(path=tmp_path / "lines.parquet")
    for clip in range(7):
        found, true = avvp.table_tracks(lines[(lines["seed"] == 0) & (lines["row"] == clip + 10)], CLASSES)
        expected = avvp.tracks(scores[clip : clip + 1], mask[clip : clip + 1], CLASSES)
        for position, name in enumerate(("audio", "visual")):
            np.testing.assert_array_equal(found.active[name], decided[clip, position].numpy())
            np.testing.assert_array_equal(found.active[name], expected.active[name])
            np.testing.assert_allclose(found.scores[name], expected.scores[name])
            np.testing.assert_array_equal(true[name], (getattr(truth, name)[clip] & mask[clip, :, None]).numpy())
        assert not found.scores["audio"][~mask[clip].numpy()].any()


def test_rows_are_compared_by_the_headline_of_each_clip(tmp_path):
    _, decided, truth, mask = random_answers()
    lines = written(path=tmp_path / "lines.parquet").sample(frac=1, random_state=0)
    scores = avvp.clip_scores(lines)
    assert list(scores.index) == list(range(10, 17))
    assert (scores["weight"] == 1).all()
    headlines = [avvp.score(said, truth, mask, 3, 1.0)[avvp.HEADLINE] for said in (decided, decided & False)]
    assert scores["score"].mean() == pytest.approx(np.mean(headlines))
    alone = avvp.clip_scores(lines[lines["seed"] == 0].drop(columns="seed"))
    assert alone["score"].mean() == pytest.approx(headlines[0])
    for clip in range(7):
        of_clip = [part[clip : clip + 1] for part in (decided, truth, mask)]
        assert alone["score"][10 + clip] == pytest.approx(avvp.score(*of_clip, 3, 1.0)[avvp.HEADLINE])
