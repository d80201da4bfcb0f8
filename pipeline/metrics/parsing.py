"""Scores of audio-visual video parsing: audio and visual events, per class and segment.

Tian, Li, Xu, ECCV 2020, Sec. 5; CoLeaF, ECCV 2024, Sec. 4.1 and Eq. 14-15, adds the scores of audio-only and visual-only events.

Shape letters: N clips, C classes, T segments, K scores.

Kinds of truth and prediction: A audio, V visual, AV both at once, Ao audio and not visual, Vo visual and not audio. The *segment* level
counts a class's segments; the *event* level counts its unbroken stretches of segments, and a predicted one is right if a true one has an
intersection over union of at least 0.5 with it. (At 0.5, and with gaps between the stretches of a class, none fits two others, so
right + false = predicted and right + missed = true.) A clip's score is the mean F-score 2 TP / (2 TP + FP + FN) of the classes that are
true or predicted in it; the score is the mean over clips. ``Type@AV`` is the mean of A, V and AV, ``Type@AVo`` of Ao, Vo and AV;
``Event@AV`` adds the counts of A and V class by class before the F-score, ``Event@AVo`` those of Ao and Vo.

A clip in which nothing of a kind is true or predicted counts as perfect (``empty="perfect"``), as in every published number. Many clips
have no visual-only segment, so predicting nothing at all scores 65.6 in Vo on LLP's test clips, more than most methods. With
``empty="skip"`` such clips are left out, kind by kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Empty = Literal["perfect", "skip"]
LEVELS = ("segment", "event")
KINDS = ("A", "Ao", "V", "Vo", "AV")
SUMS = {"Event@AV": ("A", "V"), "Event@AVo": ("Ao", "Vo")}
MEANS = {"Type@AV": ("A", "V", "AV"), "Type@AVo": ("Ao", "Vo", "AV")}
SCORES = ("A", "Ao", "V", "Vo", "AV", "Type@AV", "Type@AVo", "Event@AV", "Event@AVo")
KEYS = tuple(f"{level}/{score}" for level in LEVELS for score in SCORES)


class Counts(NamedTuple):
    """Right, false and missed segments or events per clip and class, each (N, C) int."""

    right: NDArray[np.int64]
    false: NDArray[np.int64]
    missed: NDArray[np.int64]


ParsingCounts = Mapping[str, Counts]  # by key; all of KEYS but the means


def parsing_scores(
    pred_audio: ArrayLike, pred_visual: ArrayLike, true_audio: ArrayLike, true_visual: ArrayLike,
    empty: Empty = "perfect", mask: ArrayLike | None = None,
) -> dict[str, float]:  # fmt: skip
    """All scores of parsing, :data:`KEYS`, in percent.

    Args:
        pred_audio, pred_visual, true_audio, true_visual: (N, C, T), bool.
        empty: score of a clip without anything of a kind, true or predicted: ``perfect``: 100, as published | ``skip``: left out.
        mask: (N, T), bool; where it is False nothing is true or predicted, so an event across such a segment becomes two. None: all
            count.

    Returns:
        ``segment/A`` ... ``event/Event@AVo``; NaN where no clip counts.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> audio, visual = np.zeros((2, 1, 1, 4), bool)
        >>> audio[:, :, :2] = True
        >>> scores = parsing_scores(audio, visual, audio, audio)
        >>> scores["segment/A"], scores["segment/V"], scores["segment/Vo"]
        (100.0, 0.0, 100.0)
    """
    return scores_of(count(pred_audio, pred_visual, true_audio, true_visual, mask), empty)


def count(
    pred_audio: ArrayLike, pred_visual: ArrayLike, true_audio: ArrayLike, true_visual: ArrayLike, mask: ArrayLike | None = None
) -> dict[str, Counts]:
    """Count segments and events for all scores, from the arrays of :func:`parsing_scores`.

    Raises:
        ValueError: shapes differ.
    """
    tables = [np.asarray(table, dtype=bool) for table in (pred_audio, pred_visual, true_audio, true_visual)]
    clips, classes, segments = tables[0].shape if tables[0].ndim == 3 else (-1, -1, -1)
    valid = np.ones((clips, segments), dtype=bool) if mask is None and clips >= 0 else np.asarray(mask, dtype=bool)
    if any(table.shape != (clips, classes, segments) for table in tables) or valid.shape != (clips, segments):
        shapes = ", ".join(str(table.shape) for table in tables)
        raise ValueError(f"tables {shapes} must have one shape (N, C, T), and the mask {valid.shape} its (N, T)")
    counted = [table & valid[:, None] for table in tables]
    pred, true = kinds(counted[0], counted[1]), kinds(counted[2], counted[3])
    counts: dict[str, Counts] = {}
    for level, function in (("segment", _segment_counts), ("event", event_counts)):
        of_kind = {kind: function(pred[kind], true[kind]) for kind in KINDS}
        counts |= {f"{level}/{kind}": of_kind[kind] for kind in KINDS}
        for score, (first, second) in SUMS.items():
            counts[f"{level}/{score}"] = Counts(*(one + other for one, other in zip(of_kind[first], of_kind[second], strict=True)))
    return counts


def kinds(audio: NDArray[np.bool_], visual: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Combine audio and visual (any shape, bool) into the five kinds."""
    return {"A": audio, "Ao": audio & ~visual, "V": visual, "Vo": visual & ~audio, "AV": audio & visual}


def _segment_counts(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> Counts:
    return Counts(*(table.sum(axis=-1) for table in (pred & true, pred & ~true, true & ~pred)))


def event_counts(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> Counts:
    """Count events: (N, C, T), (N, C, T) -> (N, C) each.

    A true stretch that shares half of the union with a predicted one covers at least half of it, hence a middle segment of it (one of two,
    if its length is even): only the true stretches there need to be compared.
    """
    clips, classes, segments = pred.shape
    pred, true = pred.reshape(-1, segments), true.reshape(-1, segments)
    rows, starts, ends = _runs(pred)
    true_rows, true_starts, true_ends = _runs(true)
    number = np.cumsum(true & ~_shifted(true), axis=None).reshape(true.shape) - 1  # of the stretch that a true segment belongs to
    hit = np.zeros(len(rows), dtype=bool)
    for middle in ((starts + ends - 1) // 2, (starts + ends) // 2):
        here = true[rows, middle]
        run = number[rows, middle][here]
        overlap = np.minimum(ends[here], true_ends[run]) - np.maximum(starts[here], true_starts[run])
        union = (ends - starts)[here] + (true_ends - true_starts)[run] - overlap
        hit[here] |= 2 * overlap >= union
    right, predicted, present = (
        np.bincount(of_row, minlength=clips * classes).reshape(clips, classes) for of_row in (rows[hit], rows, true_rows)
    )
    return Counts(right, predicted - right, present - right)


def _runs(table: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find every unbroken stretch of True in (M, T): its line, its first segment, and the one after its last."""
    rows, starts = np.nonzero(table & ~_shifted(table))
    _, lasts = np.nonzero(table & ~_shifted(table[:, ::-1])[:, ::-1])
    return rows, starts, lasts + 1


def _shifted(table: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Shift each line by one segment, with False at the first."""
    moved = np.zeros_like(table)
    moved[:, 1:] = table[:, :-1]
    return moved


def clip_scores(counts: ParsingCounts) -> dict[str, NDArray[np.float64]]:
    """All scores of each clip in percent, (N,) by key; their means are the scores of the data set.

    A clip without anything of a kind has 100.
    """
    scores = {key: np.nan_to_num(clip_f(of_key), nan=100.0) for key, of_key in counts.items()}
    return _with_means(scores)


def scores_of(counts: ParsingCounts, empty: Empty = "perfect") -> dict[str, float]:
    """Compute :func:`parsing_scores` from counts."""
    scores = {}
    for key, of_key in counts.items():
        of_clips = clip_f(of_key)
        of_clips = np.nan_to_num(of_clips, nan=100.0) if empty == "perfect" else of_clips[~np.isnan(of_clips)]
        scores[key] = float(of_clips.mean()) if len(of_clips) else float("nan")
    return _with_means(scores)


def micro_scores(counts: ParsingCounts) -> dict[str, float]:
    """F-scores in percent of the counts summed over all clips and classes.

    Long clips and common classes weigh more. NaN where nothing is true or predicted; Type@AV and Type@AVo are means of three here too.
    """
    return _with_means({key: float(_f(Counts(*(part.sum() for part in of_key)))) for key, of_key in counts.items()})


def class_scores(counts: ParsingCounts) -> dict[str, NDArray[np.float64]]:
    """F-scores of each class over all clips in percent, (C,) by key; NaN for a class neither true nor predicted."""
    return _with_means({key: _f(Counts(*(part.sum(axis=0) for part in of_key))) for key, of_key in counts.items()})


def clip_f(counts: Counts) -> NDArray[np.float64]:
    """Mean F-score of each clip over its true or predicted classes, (N,); NaN without any."""
    scores = _f(counts)
    present = ~np.isnan(scores)
    totals = present.sum(axis=1)
    return np.divide(np.where(present, scores, 0.0).sum(axis=1), totals, out=np.full(len(scores), np.nan), where=totals > 0)


def _f(counts: Counts) -> NDArray[np.float64]:
    """F-score 2 TP / (2 TP + FP + FN) in percent; NaN without any."""
    double = 2.0 * counts.right
    total = np.asarray(double + counts.false + counts.missed)
    return np.divide(100.0 * double, total, out=np.full(total.shape, np.nan), where=total > 0)


def _with_means(scores: dict[str, Any]) -> dict[str, Any]:
    """Add the means Type@AV and Type@AVo, in the order of :data:`KEYS`."""
    means = {
        f"{level}/{score}": sum(scores[f"{level}/{kind}"] for kind in parts) / len(parts)
        for level in LEVELS
        for score, parts in MEANS.items()
    }
    return {key: scores[key] if key in scores else means[key] for key in KEYS}
