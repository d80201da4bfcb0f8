"""Parsing with audio-visual events alone: which scores exist, and that they are those of parsing and of dense localization."""

import numpy as np
import pytest
import torch

from pipeline.metrics.parsing import parsing_scores
from pipeline.metrics.parsing_thresholds import GATES, tune_gates
from pipeline.metrics.segment_runs import spans_of_runs
from pipeline.tasks import avvp, avvp_av
from pipeline.tasks.avvp import ParsingScores

T, CLASSES = 6, ["Dog", "Cat"]
EVENTS = [
    [("av", "Dog", 0.45, 4.0), ("audio", "Cat", 0.0, 6.0)],
    [("av", "Cat", 2.0, 3.0), ("av", "Cat", 5.0, 6.0), ("av", "Dog", 1.0, 6.0)],
    [("av", "Dog", 0.0, 3.0)],
]
MASK = torch.arange(T) < torch.tensor([6, 6, 3])[:, None]


def truth():
    names = ("modality", "label", "onset", "offset")
    return avvp_av.row_targets([[dict(zip(names, event, strict=True)) for event in of_row] for of_row in EVENTS], CLASSES, T, 1.0)


def exact(true):
    """Scores that answer with the truth."""
    on = true.segments.float()
    clips = on.amax(dim=1)
    return ParsingScores(on, on, clips, clips, torch.full((3, 2, 2, 2), 0.5))


def test_an_event_heard_alone_is_none():
    true = truth()
    assert not true.segments[0, :, 1].any()
    assert true.segments[0, :, 0].tolist() == [True] * 4 + [False] * 2  # by the half rule
    assert true.events.labels.tolist() == [[0, -1, -1], [1, 1, 0], [0, -1, -1]]


def test_only_scores_of_audio_visual_events_exist():
    true = truth()
    found = avvp_av.score(avvp_av.decide(exact(true), MASK), true, MASK, 2, 1.0)
    assert found["segment/AV"] == found["event/AV"] == 100
    assert not {key for key in found if "/" in key and not key.endswith("/AV")}
    assert found["mAP@0.9"] < found["mAP@0.5"] == 100  # half a second of a segment lies outside the first event
    everywhere = true.labels[:, :, None].expand(3, 2, T).numpy()
    segments = true.segments.transpose(1, 2).numpy()
    expected = parsing_scores(everywhere, everywhere, segments, segments, mask=MASK.numpy())["segment/AV"]
    assert found["baseline_weak_label"] == pytest.approx(expected)
    assert found["baseline_mAP_true_classes_whole_clip"] < found["baseline_mAP_true_classes_hull"] < 100


def test_the_headline_is_parsings_av_score():
    torch.manual_seed(0)
    scores = ParsingScores(*torch.rand(2, 3, T, 2), *torch.rand(2, 3, 2), torch.full((3, 2, 2, 2), 0.4))
    true = truth()
    found = avvp_av.score(avvp_av.decide(scores, MASK), true, MASK, 2, 1.0)
    both = avvp.ParsingTargets(true.segments, true.segments, true.labels)
    expected = avvp.score(avvp.decide(scores, MASK), both, MASK, 2, 1.0)
    for key in ("segment/AV", "event/AV", "present/segment/AV"):
        assert found[key] == pytest.approx(expected[key])


def test_runs_of_segments_by_a_loop():
    rng = np.random.default_rng(0)
    segments, clip = rng.random((9, 3)), rng.random(3)
    expected = set()
    for label in range(3):
        for threshold in np.arange(1, 10) / 10:
            start = None
            for t in range(10):
                on = t < 9 and segments[t, label] >= round(threshold, 1)
                if on and start is None:
                    start = t
                if not on and start is not None:
                    expected.add((start, t, label, round(segments[start:t, label].mean() * clip[label], 5)))
                    start = None
    found = spans_of_runs(segments, clip)
    rows = zip(found.spans.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    assert {(int(a), int(b), label, round(value, 5)) for (a, b), label, value in rows} == expected


def test_gates_are_those_of_the_best_score_in_the_whole_grid():
    rng = np.random.default_rng(1)
    segments, clip, true = rng.random((5, T, 2)).astype(np.float32), rng.random((5, 2)).astype(np.float32), rng.random((5, T, 2)) < 0.4
    found = {}
    for gate in GATES:
        for clip_gate in GATES:
            said = ((segments >= np.float32(gate)) & (clip >= np.float32(clip_gate))[:, None]).transpose(0, 2, 1)
            marked = true.transpose(0, 2, 1)
            found[gate, clip_gate] = parsing_scores(said, said, marked, marked)["segment/AV"]
    best = max(found, key=found.__getitem__)
    assert len(GATES) == 20
    assert tune_gates(segments, clip, true) == (*best, pytest.approx(found[best]))
