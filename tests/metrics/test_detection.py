"""Average precision against a loop written from its definition, soft suppression against another, and known answers on UnAV-100."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.base import Event
from pipeline.datasets.segments import occupied
from pipeline.metrics.detection import (
    THRESHOLDS,
    Spans,
    average_precisions,
    distinct,
    hulls,
    match,
    mean_average_precision,
    mean_precisions,
    overlaps,
    resampled_means,
    soft_nms,
)
from pipeline.metrics.detection_f1 import best_cut, counts_of_videos, f1_of, taken
from pipeline.tasks import dave
from pipeline.tasks.tracks import runs

UNAV = Path(__file__).parents[3] / "shared/annotations/unav100"
C = 4


def spans(starts, lengths):
    return np.stack([starts, starts + lengths], axis=1).astype(np.float32)


def one_video(draw):
    """Random truth, and detections that are the truth moved a little, beside some that are nothing."""
    true = draw.integers(0, 7)
    labels = draw.integers(0, C - 1, true)  # the last class has no event
    truth = Spans(spans(draw.uniform(0, 30, true), draw.exponential(6, true) + 0.5), labels)
    copies = draw.integers(0, max(true, 1), 2 * true)
    near = truth.spans[copies] + draw.normal(0, 1.2, (2 * true, 2)).astype(np.float32)
    noise = spans(draw.uniform(0, 30, 5), draw.exponential(6, 5) + 0.5)
    found = np.sort(np.concatenate([near, noise]), axis=1)
    of_found = np.concatenate([labels[copies] if true else np.zeros(0, int), draw.integers(0, C, 5)])
    return Spans(found, of_found, draw.random(len(found)).round(1).astype(np.float32)), truth  # one digit: many equal scores


@pytest.fixture(scope="module")
def videos():
    draw = np.random.default_rng(7)
    return [one_video(draw) for _ in range(200)]


def iou(one, other):
    common = min(one[1], other[1]) - max(one[0], other[0])
    return 0.0 if common <= 0 else common / (one[1] - one[0] + other[1] - other[0] - common)


def naive_average_precision(videos, label, threshold):
    """Walk through the detections of a class from the best, and integrate the falling precision over recall."""
    lines = [(-float(s), n, k) for n, (found, _) in enumerate(videos) for k, s in enumerate(found.scores) if found.labels[k] == label]
    left = {n: [tuple(map(float, span)) for span, c in zip(*truth[:2], strict=True) if c == label] for n, (_, truth) in enumerate(videos)}
    total = sum(map(len, left.values()))
    hits, points = 0, [(0.0, 0.0)]
    for rank, (_, video, number) in enumerate(sorted(lines), 1):
        span = tuple(map(float, videos[video][0].spans[number]))
        fitting = [true for true in left[video] if iou(span, true) >= threshold]
        if fitting:
            left[video].remove(max(fitting, key=lambda true: iou(span, true)))
            hits += 1
        points.append((hits / total, hits / rank))
    return sum((r - before) * max(p for _, p in points[at:]) for at, ((before, _), (r, _)) in enumerate(pairwise(points), 1))


def test_average_precision_against_a_naive_loop(videos):
    found, truth = zip(*videos, strict=True)
    matches = match(found, truth, C)
    ours = average_precisions(matches)
    assert np.isnan(ours[C - 1]).all()
    naive = [[naive_average_precision(videos, label, threshold) for threshold in THRESHOLDS] for label in range(C - 1)]
    np.testing.assert_allclose(ours[: C - 1], naive, atol=1e-12)
    means = mean_precisions(matches)
    assert means["mAP"] == pytest.approx(100 * np.mean(naive))
    assert means["mAP@0.5"] == pytest.approx(100 * np.mean(naive, axis=0)[4])
    assert 1 < means["mAP@0.9"] < means["mAP@0.5"] < 95


def test_a_resample_scores_as_the_videos_written_out_again(videos):
    some = videos[:30]
    found, truth = zip(*some, strict=True)
    jitter = np.random.default_rng(1)  # without equal scores, whose order depends on the videos'
    found = [one._replace(scores=jitter.random(len(one.labels)).astype(np.float32)) for one in found]
    times = jitter.multinomial(30, np.full(30, 1 / 30), size=3)
    written = [[n for n, many in enumerate(draw) for _ in range(many)] for draw in times]
    expected = [mean_average_precision([found[n] for n in draw], [truth[n] for n in draw], C)["mAP"] for draw in written]
    np.testing.assert_allclose(resampled_means(match(found, truth, C), times), expected, atol=1e-9)


def test_a_taken_event_does_not_block_the_next_and_an_event_given_twice_counts_once():
    true = Spans(np.array([[0, 10], [0, 9], [0, 10.0005]], np.float32), np.zeros(3, int))
    found = Spans(np.array([[0, 10], [0, 10], [0, 10]], np.float32), np.zeros(3, int), np.array([0.9, 0.8, 0.7], np.float32))
    assert len(distinct(true).labels) == 2
    matches = match([found], [true], 1, (0.85,))
    assert matches.right[:, 0].tolist() == [True, True, False]
    assert taken(found, distinct(true), 0.85).tolist() == [0, 1, -1]
    assert counts_of_videos(matches).tolist() == [[2, 3, 2]]


def test_nothing_found_and_nothing_to_find():
    nothing, some = Spans(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0)), Spans(np.array([[0.0, 1.0]]), np.array([0]))
    assert mean_average_precision([nothing], [some], 2)["mAP"] == 0
    assert np.isnan(mean_average_precision([nothing], [nothing], 2)["mAP"])
    assert overlaps(np.zeros((1, 2)), np.zeros((1, 2))).tolist() == [[0.0]]
    with pytest.raises(ValueError, match="do not pair up"):
        match([nothing], [], 2)


def naive_suppression(found, least=0.001):
    kept = []
    for label in sorted(set(found.labels.tolist())):
        left = [
            (np.float32(score), number)
            for number, (score, c) in enumerate(zip(found.scores, found.labels, strict=True))
            if c == label and score >= least
        ]
        for _ in range(100):
            if not left:
                break
            score, best = max(left, key=lambda pair: (pair[0], -pair[1]))
            kept.append((score, best))
            after = []
            for other, number in left:
                if number == best:
                    continue
                (a, b), (c, d) = found.spans[best], found.spans[number]
                common = max(np.float32(0), min(b, d) - max(a, c))
                share = common / ((b - a + np.float32(1e-6)) + (d - c + np.float32(1e-6)) - common)
                faded = other * np.exp(-(share * share) / np.float32(0.4))
                if faded >= np.float32(least):
                    after.append((faded, number))
            left = after
    return sorted(kept, key=lambda pair: -pair[0])[:100]


def test_soft_suppression_against_a_loop():
    draw = np.random.default_rng(3)
    found = Spans(
        spans(draw.uniform(0, 20, 300), draw.exponential(5, 300)), draw.integers(0, 3, 300), (draw.random(300) ** 3).astype(np.float32)
    )
    ours, naive = soft_nms(found), naive_suppression(found)
    np.testing.assert_allclose(ours.scores, [score for score, _ in naive], rtol=2e-5)
    np.testing.assert_array_equal(ours.spans[:60], found.spans[[number for _, number in naive[:60]]])
    assert ours.scores.dtype == np.float32
    assert len(soft_nms(Spans(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, np.float32))).labels) == 0


def test_the_calibrated_cut_is_the_best_of_all_cuts(videos):
    found, truth = zip(*videos, strict=True)
    matches = match(found, truth, C, (0.5,))

    def f1(cut):
        kept = [Spans(one.spans[one.scores >= cut], one.labels[one.scores >= cut], one.scores[one.scores >= cut]) for one in found]
        return float(f1_of(counts_of_videos(match(kept, truth, C, (0.5,))).sum(axis=0)))

    cut = best_cut(matches, 0.5)
    assert f1(cut) == max(f1(np.float32(step / 10)) for step in range(11)) > 0
    assert best_cut(match(found[:1], [Spans(np.zeros((0, 2)), np.zeros(0, int))], C, (0.5,)), 0.25) == np.float32(0.25)


@pytest.mark.skipif(not UNAV.is_dir(), reason="the published UnAV-100 annotations (../shared/annotations/unav100) are not here")
def test_known_answers_on_the_published_annotations():
    database = json.loads((UNAV / "unav100_annotations.json").read_text(encoding="utf-8"))["database"]
    rows = [video for video in database.values() if video["subset"] == "test"]
    names = {event["label_id"]: event["label"] for row in rows for event in row["annotations"]}
    classes = [names[number] for number in range(100)]
    events = [[Event("av", event["label"], *event["segment"]) for event in row["annotations"]] for row in rows]
    seconds = [row["duration"] for row in rows]
    targets = dave.row_targets([[vars(event) for event in of_row] for of_row in events], classes, 224, 0.32, seconds=seconds)
    assert targets.spans.shape[1] == 23
    truth = [
        Spans(own[labels >= 0].numpy(), labels[labels >= 0].numpy()) for own, labels in zip(targets.spans, targets.labels, strict=True)
    ]
    over = [hulls(one) for one in truth]
    wholes = [one._replace(spans=np.tile(np.float32([0, length]), (len(one.labels), 1))) for one, length in zip(over, seconds, strict=True)]

    def on_grid(step):
        answers = []
        for of_row, length in zip(events, seconds, strict=True):
            on = occupied(of_row, classes, "av", round(71.68 / step), step)
            found = np.array([(a * step, b * step, c) for c in np.flatnonzero(on.any(axis=1)) for a, b in runs(on[c])]).reshape(-1, 3)
            answers.append(Spans(found[:, :2].clip(0, length), found[:, 2].astype(int), np.ones(len(found), np.float32)))
        return answers

    expected = {28.6: wholes, 45.1: over, 89.8: on_grid(1.0), 97.6: on_grid(0.32)}
    found = [round(mean_average_precision(answer, truth, 100)["mAP"], 1) for answer in expected.values()]
    assert found == list(expected)
