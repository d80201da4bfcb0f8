"""One clip's seconds as lanes: what is true and what a row said, as spans of one label, by task.

A lane is {"track": what it is about, "truth": spans, "spans": spans, "scores": one number in [0, 1] a segment}; a span is
[start, end, label, kind], start and end in segments, the end outside. Kinds: ``true`` in a truth; in an answer ``right``, ``wrong`` (an
event, but of another class), ``false`` (an event where there is none), ``missed`` (none where there is one: the label is the true one).
AVEL has one lane, ``event``: what is both heard and seen. A task that judges hearing and seeing apart has the lanes ``heard`` and ``seen``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pandas as pd

Span = list[Any]


def avel_lanes(segments: pd.DataFrame, background: int) -> list[dict[str, Any]]:
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


LANES: dict[str, Callable[[pd.DataFrame, int], list[dict[str, Any]]]] = {"avel": avel_lanes}
