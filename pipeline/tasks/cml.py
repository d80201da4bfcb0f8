"""Cross-modality localization (Tian et al., ECCV 2018): the event's segments of one modality are given, find them in the other.

A2V gives the sound and searches the picture, V2A the reverse. As published, the answer has the length of the question, and counts only
if it starts exactly where the event does. A clip asks if its event is one unbroken run of at least two segments that does not fill it;
all others of a split are left out of the scores (AVE's 402 test clips of this task all ask).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.base import Event, SegmentRule
from pipeline.datasets.segments import occupied
from pipeline.errors import InputProblems, PipelineError
from pipeline.layers.matching import fits
from pipeline.methods.base import MatchingScores, MatchingTargets
from pipeline.metrics.matching import exact_starts, mean_overlap, trivial_answers
from pipeline.tasks import avel

HEADLINE = "accuracy"
DIRECTIONS = ("a2v", "v2a")


class Questions(NamedTuple):
    """start, length (N,) of the event, int; segments (N,) of the clip; asked (N,) bool. Where not asked, the others mean nothing."""

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    segments: NDArray[np.int64]
    asked: NDArray[np.bool_]


def row_targets(
    events: Sequence[Sequence[Mapping[str, Any]]],
    classes: Sequence[str],
    segments: int,
    segment_seconds: float,
    clip_labels: Sequence[Sequence[str]] | None = None,  # the events tell all
    rule: SegmentRule = "half",
) -> MatchingTargets:
    """Truth of N annotation rows, from what is seen and heard together: a segment is the event's if the event covers it by the rule.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    if unknown := sorted({event["label"] for of_row in events for event in of_row} - set(classes)):
        raise InputProblems("events", [f"the label {label!r} is not in the class list {', '.join(classes)}" for label in unknown])
    occupation = np.zeros((len(events), len(classes), segments), dtype=bool)
    for row, of_row in enumerate(events):
        occupation[row] = occupied([Event(**event) for event in of_row], classes, "av", segments, segment_seconds, rule)
    return MatchingTargets(torch.from_numpy(occupation.any(axis=1)), torch.from_numpy(occupation.any(axis=2)).float())


def questions(truth: MatchingTargets, mask: Tensor) -> Questions:
    """What the clips of a split ask, with (N, T) bool of their valid segments."""
    event = (truth.event & mask).numpy()
    start, length, segments = event.argmax(axis=1), event.sum(axis=1), mask.numpy().sum(axis=1)
    end = event.shape[1] - event[:, ::-1].argmax(axis=1)
    unbroken = end - start == length
    return Questions(start, length, segments, unbroken & (length > 1) & (length < segments))


def decide(scores: MatchingScores, mask: Tensor) -> Tensor:
    """The best answer to every question a clip could ask, the first of equals.

    Returns:
        (B, 2 directions, L, T), int64: first segment of the answer, by length - 1 and start of the question.
    """
    possible = fits(mask).unsqueeze(2)  # of the answer, whatever the question's start
    found = [scores.audio_to_visual, scores.visual_to_audio]
    return torch.stack([one.masked_fill(~possible, float("-inf")).argmax(dim=-1) for one in found], dim=1)


def score(decided: Tensor, truth: MatchingTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """Every number of the task, as plain JSON, in percent.

    Returns:
        ``accuracy``: the headline, mean of ``a2v`` and ``v2a``: exact starts. ``a2v_iou``, ``v2a_iou``: mean overlap. ``asked``: the number
        of clips these are over. ``baseline_...``: :func:`pipeline.metrics.matching.trivial_answers`, the same in both directions.

    Raises:
        PipelineError: no clip of the split asks anything.
    """
    asking = questions(truth, mask)
    asked, start, length = asking.asked, asking.start[asking.asked], asking.length[asking.asked]
    if not asked.any():
        raise PipelineError(
            f"cross-modality localization: none of {len(asked)} clips has an event of two segments or more that is shorter than the clip;"
            " this split has nothing to find"
        )
    answers = _answers(decided, asking)[asked]
    exact = {name: exact_starts(answers[:, number], start) for number, name in enumerate(DIRECTIONS)}
    return {
        "accuracy": sum(exact.values()) / len(exact),
        **exact,
        **{f"{name}_iou": mean_overlap(answers[:, number], start, length) for number, name in enumerate(DIRECTIONS)},
        "asked": int(asked.sum()),
        **{f"baseline_{name}": value for name, value in trivial_answers(start, length, asking.segments[asked]).items()},
    }


def _answers(decided: Tensor, asking: Questions) -> NDArray[np.int64]:
    """(N, 2): the decided start for what each clip does ask."""
    return decided.numpy()[np.arange(len(decided)), :, np.maximum(asking.length, 1) - 1, asking.start]


def table(scores: MatchingScores, decided: Tensor, truth: MatchingTargets, mask: Tensor) -> pd.DataFrame:
    """Two lines per clip, one per direction: direction, valid (the clip asks), true and predicted start, length."""
    asking = questions(truth, mask)
    return pd.DataFrame({
        "direction": list(DIRECTIONS) * len(decided),
        "valid": asking.asked.repeat(2),
        "true": asking.start.repeat(2),
        "predicted": _answers(decided, asking).ravel(),
        "length": asking.length.repeat(2),
    })  # fmt: skip


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """By annotation row that asks: ``score``, the share of its two questions answered exactly (percent, mean over seeds); ``segments``,
    their number."""
    return avel.clip_scores(lines)
