"""Detections of overlapping windows joined to those of the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.metrics.detection import Spans
from pipeline.tasks.dave import DetectionScores, joined

WINDOW, STEP = 20.0, 1.0


def window(*lines):
    """Scores of one window from (start, end, label, score), in seconds of the window."""
    of = np.array(lines, dtype=np.float32).reshape(-1, 4)
    order = np.argsort(-of[:, 3], kind="stable")
    return DetectionScores.of([Spans(of[order, :2], of[order, 2].astype(np.int64), of[order, 3])], torch.tensor(0.5))


def lines_of(scores, least=0.5):
    spans, labels, values = scores.spans[0].numpy(), scores.labels[0].numpy(), scores.scores[0].numpy()
    return sorted(
        (*span, label, value) for span, label, value in zip(spans.tolist(), labels.tolist(), values.tolist(), strict=True) if value >= least
    )


def test_one_window_keeps_its_detections_to_the_end_of_the_file():
    lines = [(0.0, 4.0, 1, 0.9), (0.5, 4.5, 1, 0.4), (10.0, 19.0, 0, 0.75)]
    found = joined([(0.0, window(*lines))], WINDOW, STEP, 15.0)
    assert lines_of(found, 0.0) == [(0.0, 4.0, 1, pytest.approx(0.9)), (0.5, 4.5, 1, pytest.approx(0.4)), (10.0, 15.0, 0, 0.75)]
    assert found.scores[0].tolist() == sorted(found.scores[0].tolist(), reverse=True)


def test_windows_that_see_all_there_is_give_back_the_events():
    """Each window answers with the parts of the true events that it holds, the longest event being longer than three windows."""
    draw = np.random.default_rng(4)
    for _ in range(30):
        seconds, true = 200.0, []
        for label in range(4):
            at = draw.uniform(0, 15)
            while at < seconds - 3:
                end = min(at + draw.choice([2.0, 8.0, 15.0, 70.0]) * draw.uniform(0.9, 1.1), seconds)
                true.append((at, end, label))
                at = end + draw.uniform(4, 25)
        starts = np.arange(19) * WINDOW / 2
        windows = []
        for start in starts:
            seen = [(max(s, start) - start, min(e, start + WINDOW) - start, c, 0.9) for s, e, c in true if s < start + WINDOW and e > start]
            windows.append((start, window(*[line for line in seen if line[1] - line[0] > 0.2])))
        found = lines_of(joined(windows, WINDOW, STEP, seconds))
        np.testing.assert_allclose(sorted(line[:3] for line in found), sorted(true), atol=1e-4)


def test_the_lesser_of_two_windows_fades_and_what_one_window_said_stays():
    first, second = window((12.0, 18.0, 0, 0.9), (13.0, 18.0, 0, 0.6)), window((2.0, 8.0, 0, 0.8), (3.0, 8.0, 1, 0.7))
    found = lines_of(joined([(0.0, first), (10.0, second)], WINDOW, STEP, 30.0), 0.0)
    faded = pytest.approx(0.8 * np.exp(-1 / 0.4), rel=1e-4)  # beside the best; the other of the first window fades it once more
    assert (12.0, 18.0, 0, pytest.approx(0.9)) in found
    assert (13.0, 18.0, 0, pytest.approx(0.6)) in found
    assert (13.0, 18.0, 1, pytest.approx(0.7)) in found
    (value,) = [value for start, _, label, value in found if label == 0 and start == 12.0 and value < 0.5]
    assert value <= faded.expected


def test_a_part_that_the_next_window_misses_stays_cut():
    found = lines_of(joined([(0.0, window((5.0, 19.8, 0, 0.9))), (10.0, window())], WINDOW, STEP, 30.0))
    assert found == [(5.0, pytest.approx(19.8), 0, pytest.approx(0.9))]
    whole = [(0.0, window((12.0, 20.0, 0, 0.9))), (10.0, window((2.0, 13.0, 0, 0.7)))]  # the second holds what the first cut
    assert lines_of(joined(whole, WINDOW, STEP, 30.0), 0.0) == [(12.0, 23.0, 0, pytest.approx(0.7))]
