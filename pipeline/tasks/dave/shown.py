"""Views of dense localization predictions for files, pictures and the report.

The only track is ``audio_visual``. Events are real-valued spans, and may overlap: also two of one class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.bootstrap import Difference
from pipeline.metrics.detection import SAME, Matches, Spans, match, overlaps, resampled_means
from pipeline.metrics.detection_f1 import counts_of_videos, f1_of, taken
from pipeline.tasks.dave.scores import OVERLAP, DetectionScores
from pipeline.tasks.grid import ScoreGrid
from pipeline.tasks.lanes import Lane, Span
from pipeline.tasks.tracks import FoundEvent, TrackName, Tracks

SECONDARY: Mapping[str, str] = {
    "mAP@0.5": "mAP@0.5", "mAP@0.7": "mAP@0.7", "mAP@0.9": "mAP@0.9", "recall@100": "Recall@100", "f1@0.5": "F1@0.5 at the threshold",
}  # fmt: skip
GRID: ScoreGrid | None = None
CLIP_SCORE = "F1@0.5"
has_tracks = True
COMPARED: tuple[str, ...] = ("kind", "start", "end", "label", "score")
SHOWN: tuple[str, ...] = COMPARED
CONFIDENT: tuple[str, ...] = COMPARED
RESAMPLES = 200  # of the clips, for the interval of a difference


def spans_of_rows(lines: pd.DataFrame, kind: str, rows: Sequence[int]) -> list[Spans]:
    """The detections or true events of each annotation row, from the lines of one seed."""
    chosen = lines[lines["kind"] == kind].sort_values("row", kind="stable")
    numbers = chosen["row"].to_numpy()
    edges = np.searchsorted(numbers, rows, "left"), np.searchsorted(numbers, rows, "right")
    spans, labels = chosen[["start", "end"]].to_numpy(np.float32), chosen["label"].to_numpy(np.int64)
    scores = chosen["score"].to_numpy(np.float32)
    return [Spans(spans[a:b], labels[a:b], scores[a:b] if kind == "found" else None) for a, b in zip(*edges, strict=True)]


def matches_of(lines: pd.DataFrame, rows: Sequence[int], active: bool = False) -> list[Matches]:
    """The matches of each seed over some annotation rows.

    Args:
        active: only of detections that reach the threshold, at an overlap of 0.5.
    """
    found = []
    for _, of_seed in lines.groupby(lines["seed"] if "seed" in lines else np.zeros(len(lines))):
        kept = of_seed[passing(of_seed)] if active else of_seed
        parts = spans_of_rows(kept, "found", rows), spans_of_rows(of_seed, "true", rows)
        classes = 1 + max(int(of_seed["label"].max()), 0)
        found.append(match(*parts, classes, (OVERLAP,)) if active else match(*parts, classes))
    return found


def passing(lines: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each line's score reaches the threshold of its clip, which stands in the clip's line; lines of one seed."""
    whole = lines[lines["kind"] == "clip"].set_index("row")["score"]
    return (lines["score"] >= lines["row"].map(whole)).to_numpy()


def rows_of(lines: pd.DataFrame) -> list[int]:
    return sorted(int(row) for row in lines["row"].unique())


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """F1 of each clip, of the detections that reach the threshold, at an overlap of 0.5.

    Average precision is no mean over clips.

    Returns:
        By annotation row ``score`` (percent, mean over seeds) and ``weight`` 1.
    """
    rows = rows_of(lines)
    by_seed = [f1_of(counts_of_videos(of_seed)) for of_seed in matches_of(lines, rows, active=True)]
    return pd.DataFrame({"score": np.mean(by_seed, axis=0), "weight": 1}, index=pd.Index(rows, name="row"))


def compare(first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
    """First minus second in mAP over the common clips, means over seeds.

    The interval is by drawing clips, or groups of them, again. None if they have no event.
    """
    rows = sorted({*rows_of(first)} & {*rows_of(first if second is None else second)})
    if not rows:
        return None
    of_group = np.arange(len(rows)) if groups is None else np.unique(groups.loc[rows], return_inverse=True)[1]
    count = int(of_group.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, of_group]
    times = np.concatenate([np.ones((1, len(rows)), dtype=np.int64), drawn])
    ours = _mean_over_seeds(matches_of(first, rows), times)
    mean, *apart = ours if second is None else ours - _mean_over_seeds(matches_of(second, rows), times)
    if np.isnan(mean):
        return None
    low, high = np.nanquantile(apart, [0.025, 0.975])
    return Difference(float(mean), float(low), float(high))


def _mean_over_seeds(by_seed: Sequence[Matches], times: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.mean([resampled_means(of_seed, times) for of_seed in by_seed], axis=0)


def confidences(lines: pd.DataFrame) -> dict[str, tuple[NDArray, NDArray]]:
    """``detection``: the scores, and whether each detection finds an event at an overlap of 0.5."""
    judged = matches_of(lines, rows_of(lines))
    scores = [of_seed.scores for of_seed in judged]
    right = [of_seed.right[:, of_seed.thresholds.index(OVERLAP)] for of_seed in judged]
    return {"detection": (np.concatenate([np.zeros(0), *scores]), np.concatenate([np.zeros(0, bool), *right]))}


def attention(scores: DetectionScores) -> None:
    """Return None: detectors work on streams without positions."""


def tracks(scores: DetectionScores, mask: Tensor, classes: Sequence[str], segment_seconds: float = 1.0) -> Tracks:
    """The answer for one clip (B = 1): its events, and the best score of a detection in each segment."""
    kept = scores.labels[0].numpy() >= 0
    spans, labels, values = (part[0].float().numpy()[kept] for part in (scores.spans, scores.labels, scores.scores))
    return _tracks(spans, labels, values, float(scores.threshold[0]), mask[0].numpy().copy(), classes, segment_seconds)


def _tracks(
    spans: NDArray, labels: NDArray, scores: NDArray, threshold: float, valid: NDArray[np.bool_], classes: Sequence[str],
    segment_seconds: float,
) -> Tracks:  # fmt: skip
    on = scores >= threshold
    found = [
        FoundEvent(float(start), float(end), classes[int(label)], float(value), "audio_visual")
        for (start, end), label, value in zip(spans[on], labels[on], scores[on], strict=True)
    ]
    grid = on_grid(Spans(spans, labels.astype(np.int64), scores), len(valid), len(classes), segment_seconds)
    active = on_grid(Spans(spans[on], labels[on].astype(np.int64), scores[on]), len(valid), len(classes), segment_seconds) > 0
    return Tracks(
        tuple(classes),
        {"audio_visual": grid * valid[:, None]},
        {"audio_visual": active & valid[:, None]},
        valid,
        tuple(sorted(found, key=lambda event: (event.start, event.label))),
    )


def on_grid(found: Spans, segments: int, num_classes: int, segment_seconds: float) -> NDArray[np.float32]:
    """The highest score of a class's spans that cover half of a segment or more, else 0: (T, C) float32.

    A span too short for that covers the segment of its middle.
    """
    table = np.zeros((segments, num_classes), dtype=np.float32)
    starts = np.arange(segments) * segment_seconds
    scores = np.ones(len(found.labels), np.float32) if found.scores is None else found.scores
    for (start, end), label, value in zip(found.spans, found.labels, scores, strict=True):
        inside = np.minimum(starts + segment_seconds, end) - np.maximum(starts, start) >= segment_seconds / 2
        inside[min(int((start + end) / 2 / segment_seconds), segments - 1)] = True
        table[inside, label] = np.maximum(table[inside, label], value)
    return table


def _segments(lines: pd.DataFrame, segment_seconds: float) -> int:
    """Number of segments that the clip of these lines begins."""
    return max(1, math.ceil(float(lines["end"][lines["kind"] == "clip"].iloc[0]) / segment_seconds - 1e-6))


def _of_kind(lines: pd.DataFrame, kind: str) -> tuple[NDArray, NDArray, NDArray]:
    """Spans (K, 2), labels (K,) and scores (K,) of a clip's lines of a kind."""
    chosen = lines[lines["kind"] == kind]
    return chosen[["start", "end"]].to_numpy(np.float32), chosen["label"].to_numpy(np.int64), chosen["score"].to_numpy(np.float32)


def table_tracks(
    lines: pd.DataFrame, classes: Sequence[str], segment_seconds: float = 1.0
) -> tuple[Tracks, dict[TrackName, NDArray[np.bool_]]]:
    """The answer for one clip from its lines, and the truth on its segments by track, (T, C) bool."""
    segments, threshold = _segments(lines, segment_seconds), float(lines["score"][lines["kind"] == "clip"].iloc[0])
    valid = np.ones(segments, dtype=bool)
    answer = _tracks(*_of_kind(lines, "found"), threshold, valid, classes, segment_seconds)
    spans, labels, _ = _of_kind(lines, "true")
    return answer, {"audio_visual": on_grid(Spans(spans, labels), segments, len(classes), segment_seconds) > 0}


def lanes(lines: pd.DataFrame, num_classes: int, segment_seconds: float = 1.0) -> list[Lane]:
    """One lane, with the events that reach the threshold; its scores are those of the likeliest class.

    An event is ``right`` if it finds a true one at an overlap of 0.5, ``wrong`` if it overlaps one of another class so, else ``false``.
    """
    (true, true_labels, _), (spans, labels, scores) = (_of_kind(lines, kind) for kind in ("true", "found"))
    on = scores >= float(lines["score"][lines["kind"] == "clip"].iloc[0])
    took = taken(Spans(spans[on], labels[on], scores[on]), Spans(true, true_labels), OVERLAP)
    covering = np.any((overlaps(spans[on], true) >= OVERLAP) & np.not_equal.outer(labels[on], true_labels), axis=1)
    kinds = ["right" if event >= 0 else "wrong" if other else "false" for event, other in zip(took, covering.tolist(), strict=True)]
    answers = _plain(spans[on], labels[on], kinds, segment_seconds)
    missed = np.setdiff1d(np.arange(len(true)), took)
    answers += _plain(true[missed], true_labels[missed], ["missed"] * len(missed), segment_seconds)
    grid = on_grid(Spans(spans, labels, scores), _segments(lines, segment_seconds), num_classes, segment_seconds)
    truth = _plain(true, true_labels, ["true"] * len(true), segment_seconds)
    return [Lane("audio_visual", truth, sorted(answers), grid.max(axis=1, initial=0.0).tolist())]


def _plain(spans: NDArray, labels: NDArray, kinds: Sequence[str], segment_seconds: float) -> list[Span]:
    """Spans of a lane, in segments to a hundredth of a second."""
    edges = np.round(spans.astype(np.float64), 2) / segment_seconds
    return [[start, end, int(label), kind] for (start, end), label, kind in zip(edges.tolist(), labels, kinds, strict=True)]


def true_classes(lines: pd.DataFrame, num_classes: int) -> list[int]:
    """The true class of every event."""
    return lines["label"][lines["kind"] == "true"].tolist()


def eventful(lines: pd.DataFrame) -> pd.Index:
    """Annotation rows with an event that does not fill its clip; all rows if there are none."""
    whole = lines[lines["kind"] == "clip"].set_index("row")["end"].groupby(level=0).first()
    true = lines[lines["kind"] == "true"]
    partial = true["row"][(true["end"] - true["start"]).to_numpy() < true["row"].map(whole).to_numpy() - SAME]
    return pd.Index(sorted(partial.unique()) or sorted(whole.index), name="row")
