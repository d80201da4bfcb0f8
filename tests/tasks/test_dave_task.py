"""Dense localization: targets of awkward annotations, judged answers, comparisons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.errors import InputProblems, PipelineError
from pipeline.metrics.detection import Spans, mean_average_precision
from pipeline.tasks import dave

CLASSES = ["Dog", "Cat", "Bell"]
MASK = torch.ones(2, 20, dtype=torch.bool)


def av(label, onset, offset, modality="av"):
    return {"modality": modality, "label": label, "onset": onset, "offset": offset}


def targets(*rows, seconds=None):
    return dave.row_targets(rows, CLASSES, 20, 1.0, seconds=seconds)


def scores(*rows, threshold=0.5):
    """Detections of clips from lists of (start, end, label, score)."""
    of = [np.array(sorted(row, key=lambda line: -line[3]), np.float32).reshape(-1, 4) for row in rows]
    return dave.DetectionScores.of([Spans(one[:, :2], one[:, 2].astype(np.int64), one[:, 3]) for one in of], torch.tensor(threshold))


def lines_of(answers, truth, seed=0):
    table = dave.table(answers, answers, truth, MASK)
    return table.assign(row=table["clip_number"] + 10, seed=seed)


def test_targets_of_awkward_annotations():
    beyond = [av("Dog", 1.25, 30.0), av("Cat", 16.0, 18.0), av("Bell", 3.0, 3.0)]
    twice = [av("Cat", 2.0, 4.0), av("Cat", 2.0005, 4.0), av("Dog", 2.0, 4.0), av("Bell", 0.0, 1.0, "audio")]
    found = targets(beyond, twice, [], seconds=[15.0, 60.0, 0.5])
    assert found.seconds.tolist() == [15.0, 20.0, 0.5]
    assert found.labels.tolist() == [[0, -1], [1, 0], [-1, -1]]
    assert found.spans[0].tolist() == [[1.25, 15.0], [0.0, 0.0]]
    assert targets([], []).spans.shape == (2, 0, 2)
    with pytest.raises(InputProblems, match="'Bird' is not in the class list"):
        targets([av("Bird", 0.0, 1.0)])


def test_weak_labels_are_those_of_audio_visual_events():
    rows = [[av("Cat", 0.0, 2.0), av("Dog", 0.0, 2.0, "visual")], [av("Dog", 0.0, 2.0, "audio")], []]
    assert dave.video_targets(rows, CLASSES, 20, 1.0).labels.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert dave.video_targets(rows, CLASSES, 20, 1.0, clip_labels=[["Bell"]] * 3).labels[2].tolist() == [0, 0, 1, 0]


@pytest.mark.fault(33)
def test_a_split_without_an_event_cannot_be_scored():
    with pytest.raises(PipelineError, match="none of 2 clips has an audio-visual event"):
        dave.score(scores([], []), targets([], []), MASK, 3, 1.0)


TRUTH = [av("Dog", 2.0, 6.0), av("Dog", 4.5, 9.5), av("Bell", 12.0, 13.0), av("Cat", 15.0, 15.3)]
ANSWER = [(2.2, 6.0, 0, 0.9), (4.0, 9.0, 0, 0.8), (12.0, 13.2, 1, 0.7), (17.0, 19.0, 2, 0.6), (0.0, 20.0, 1, 0.2)]


def test_spans_of_a_clip_are_judged_and_may_overlap_in_one_class():
    lines = lines_of(scores(ANSWER), targets(TRUTH))
    (lane,) = dave.lanes(lines, 3, segment_seconds=0.5)
    kinds = [(start / 2, end / 2, label, kind) for start, end, label, kind in lane.spans]
    assert kinds == [
        (2.2, 6.0, 0, "right"), (4.0, 9.0, 0, "right"), (12.0, 13.0, 2, "missed"), (12.0, 13.2, 1, "wrong"), (15.0, 15.3, 1, "missed"),
        (17.0, 19.0, 2, "false"),
    ]  # fmt: skip
    assert len(lane.scores) == 40
    tracks, truth = dave.table_tracks(lines, CLASSES, 0.5)
    assert [(event.start, event.end) for event in tracks.found] == [pytest.approx(line[:2]) for line in sorted(ANSWER[:4])]
    assert tracks.scores["audio_visual"][10, 0] == np.float32(0.9)  # 5.0 to 5.5 s: the better of two
    assert np.flatnonzero(truth["audio_visual"][:, 1]).tolist() == [30]  # 0.3 s of a segment of 0.5 s
    assert tracks.active["audio_visual"][:, 1].sum() == 2
    assert dave.true_classes(lines, 3) == [0, 0, 2, 1]
    confusion = dave.score(scores(ANSWER, []), targets(TRUTH, []), MASK, 3, 1.0)["confusion"]
    assert confusion == [
        [2, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
    ]  # a Bell taken for a Cat, a Cat missed, a Bell from nothing


def test_an_event_found_twice_is_right_once_and_not_taken_for_another_class():
    (lane,) = dave.lanes(lines_of(scores([(1.0, 5.0, 2, 0.9), (1.0, 4.5, 2, 0.8)]), targets([av("Bell", 1.0, 5.0)])), 3)
    assert sorted(kind for *_, kind in lane.spans) == ["false", "right"]


def test_detections_are_cut_at_the_end_of_the_clip_before_they_are_scored():
    truth = targets([av("Dog", 0.0, 8.0)], [av("Cat", 1.0, 2.0)], seconds=[8.0, 4.0])
    metrics = dave.score(scores([(0.0, 40.0, 0, 0.9)], [(1.0, 2.0, 1, 0.4)]), truth, MASK, 3, 1.0)
    assert metrics["mAP"] == metrics["recall@100"] == 100
    assert metrics["f1@0.5"] == 50  # the second clip's detection does not reach the threshold
    assert metrics["micro_f1@0.5"] == pytest.approx(200 / 3)
    assert metrics["class_mAP"] == [100, 100, None]
    assert metrics["baseline_true_classes_hull"] == 100 > metrics["baseline_true_classes_whole_clip"]


def random_answers(draw, truth, spread):
    rows = []
    for own, labels in zip(truth.spans.numpy(), truth.labels.numpy(), strict=True):
        moved = np.sort(own + draw.normal(0, spread, own.shape), axis=1)
        rows.append([(*span, label, draw.random()) for span, label in zip(moved, labels, strict=True) if label >= 0])
    return scores(*rows)


def test_runs_are_compared_in_average_precision_with_the_clips_drawn_again(monkeypatch):
    monkeypatch.setattr(dave.shown, "RESAMPLES", 60)
    draw = np.random.default_rng(5)
    truth = targets(*[[av(CLASSES[draw.integers(3)], s, s + draw.uniform(1, 4)) for s in draw.uniform(0, 15, 4)] for _ in range(25)])
    fine, rough = ([random_answers(draw, truth, spread) for _ in range(2)] for spread in (0.2, 1.0))
    ours, theirs = (pd.concat([lines_of(answer, truth, seed) for seed, answer in enumerate(of_run)]) for of_run in (fine, rough))
    found = dave.compare(ours, theirs)
    means = [np.mean([dave.score(answer, truth, MASK, 3, 1.0)["mAP"] for answer in of_run]) for of_run in (fine, rough)]
    assert found.mean == pytest.approx(means[0] - means[1], abs=1e-6)
    assert 0 < found.low < found.mean < found.high
    back = dave.compare(theirs, ours)
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))
    of_clips = dave.clip_scores(ours)
    expected = np.mean([dave.score(answer, truth, MASK, 3, 1.0)["f1@0.5"] for answer in fine])
    assert of_clips["score"].mean() == pytest.approx(expected)
    assert {*dave.eventful(ours)} == {*range(10, 35)}


def test_runs_are_not_compared_on_clips_without_an_event():
    lines = lines_of(scores([(1.0, 5.0, 2, 0.9)]), targets([]))
    assert dave.compare(lines, lines) is None


def test_average_precision_of_the_table_is_that_of_the_metrics():
    truth, answer = targets(TRUTH), scores(ANSWER)
    lines = lines_of(answer, truth)
    spans = {kind: lines[lines["kind"] == kind] for kind in ("true", "found")}
    true, found = (Spans(part[["start", "end"]].to_numpy(), part["label"].to_numpy(), part["score"].to_numpy()) for part in spans.values())
    expected = mean_average_precision([found], [true], 3)["mAP"]
    assert dave.score(answer, truth, MASK, 3, 1.0)["mAP"] == pytest.approx(expected)
    confidence, right = dave.confidences(lines)["detection"]
    assert sorted(confidence[right].round(2).tolist()) == [0.8, 0.9]
