"""One clip's seconds as lanes: what is true and what a run said, as spans of one label, by task.

A lane is {"track": what it is about, "truth": spans, "spans": spans, "scores": one number in [0, 1] a segment}; a span is
[start, end, label, kind], start and end in segments, the end outside. Kinds: ``true`` in a truth; in an answer ``right``, ``wrong`` (an
event, but of another class), ``false`` (an event where there is none), ``missed`` (none where there is one: the label is the true one).
AVEL has one lane, ``event``: what is audio-visual. AVVP, which judges the modalities apart, has the lanes
``audio`` and ``visual``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from pipeline.tasks.avvp import MODALITIES, switched_on

Span = list[Any]
Lane = dict[str, Any]


def avel_lanes(segments: pd.DataFrame, background: int) -> list[Lane]:
    """The lane of one annotation row.

    Args:
        segments: one line per segment, in order: ``valid``, ``true``, ``predicted``, ``event``.
        background: its label index, C.
    """
    true, predicted, valid = (segments[name].tolist() for name in ("true", "predicted", "valid"))
    answers = [_judge(t, p, background) if v else None for t, p, v in zip(true, predicted, valid, strict=True)]
    truth = [(t, "true") if v and t != background else None for t, v in zip(true, valid, strict=True)]
    scores = [round(float(score), 3) if v else 0.0 for score, v in zip(segments["event"], valid, strict=True)]
    return [{"track": "event", "truth": spans_of(truth), "spans": spans_of(answers), "scores": scores}]


def _judge(true: int, predicted: int, background: int) -> tuple[int, str] | None:
    if predicted == background:
        return None if true == background else (true, "missed")
    if predicted == true:
        return predicted, "right"
    return predicted, "false" if true == background else "wrong"


def spans_of(marks: list[tuple[int, str] | None]) -> list[Span]:
    """Equal neighbours joined: [(2, "right"), (2, "right"), None] -> [[0, 2, 2, "right"]]."""
    spans: list[Span] = []
    for mark, group in groupby(enumerate(marks), key=lambda entry: entry[1]):
        if mark is not None:
            positions = [position for position, _ in group]
            spans.append([positions[0], positions[-1] + 1, *mark])
    return spans


def avel_events(segments: pd.DataFrame, background: int) -> list[int]:
    """The true class of every event segment of some rows."""
    return segments["true"][segments["valid"] & (segments["true"] != background)].tolist()


def avvp_lanes(segments: pd.DataFrame, background: int) -> list[Lane]:
    """The lanes ``audio`` and ``visual`` of one annotation row: spans of several classes may overlap, and no class is ever said in
    another's place, so that nothing is ``wrong``. Scores: of the likeliest class.

    Args:
        segments: one line per segment, in order: ``valid``, and for both tracks ``true_TRACK``, ``TRACK`` (class numbers) and
            ``scores_TRACK``.
        background: C.
    """
    valid = segments["valid"].to_numpy(dtype=bool)
    lanes = []
    for track in MODALITIES:
        true, said = (switched_on(segments[column], background) & valid[:, None] for column in (f"true_{track}", track))
        truth: list[Span] = []
        spans: list[Span] = []
        for number in np.flatnonzero((true | said).any(axis=0)).tolist():
            pairs = list(zip(true[:, number], said[:, number], strict=True))
            truth += spans_of([(number, "true") if t else None for t, _ in pairs])
            spans += spans_of([(number, ("right" if t else "false") if s else "missed") if t or s else None for t, s in pairs])
        scores = [round(float(max(of_segment)), 3) if v else 0.0 for of_segment, v in zip(segments[f"scores_{track}"], valid, strict=True)]
        lanes.append({"track": track, "truth": truth, "spans": spans, "scores": scores})
    return lanes


def avvp_events(segments: pd.DataFrame, background: int) -> list[int]:
    """The classes of every segment of some rows, as often as they are audio or visual."""
    valid = segments[segments["valid"]]
    return [int(number) for track in MODALITIES for numbers in valid[f"true_{track}"] for number in numbers]


@dataclass(frozen=True)
class Reader:
    """How the page reads a task's table: the columns it needs beside row, clip, segment and valid; the lanes of an annotation row; the true
    class of every event segment, where there are several as often as there are."""

    columns: tuple[str, ...]
    lanes: Callable[[pd.DataFrame, int], list[Lane]]
    events: Callable[[pd.DataFrame, int], list[int]]


LANES = {
    "avel": Reader(("true", "predicted", "event"), avel_lanes, avel_events),
    "avvp": Reader(tuple(f"{part}{track}" for track in MODALITIES for part in ("true_", "", "scores_")), avvp_lanes, avvp_events),
}
