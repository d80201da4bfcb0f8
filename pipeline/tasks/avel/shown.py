"""Views of audio-visual event localization predictions for files, pictures and the report.

The only track is ``audio_visual``, because the task's events are audio-visual. Class index C is the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.bootstrap import Difference
from pipeline.tasks.avel.scores import Scores, decide
from pipeline.tasks.grid import ScoreGrid
from pipeline.tasks.lanes import Lane, Mark, spans_of
from pipeline.tasks.means import changing_rows, compare_means, right_shares
from pipeline.tasks.tracks import TrackName, Tracks

SECONDARY: Mapping[str, str] = {
    "event_f1": "Event F1", "background_f1": "Background F1", "start_error_seconds": "Start error, s", "end_error_seconds": "End error, s",
}  # fmt: skip
GRID: ScoreGrid | None = None
CLIP_SCORE = "right"
has_tracks = True
COMPARED: tuple[str, ...] = ("valid", "true", "predicted")
SHOWN: tuple[str, ...] = ("valid", "true", "predicted", "event")
CONFIDENT: tuple[str, ...] = ("valid", "true", "predicted", "event", "scores")


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """Per annotation row, the share of valid segments labelled correctly.

    Returns:
        By annotation row ``score`` (percent, mean over seeds) and ``weight``, the number of valid segments.
    """
    return right_shares(lines)


def compare(first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
    """First minus second in accuracy; all segments weigh the same."""
    return compare_means(clip_scores(first), None if second is None else clip_scores(second), groups)


def confidences(lines: pd.DataFrame) -> dict[str, tuple[NDArray, NDArray]]:
    """``event``: probability that a segment contains an event, and whether it does; ``label``: likewise for the predicted label."""
    valid, true, predicted, event = (lines[name].to_numpy() for name in ("valid", "true", "predicted", "event"))
    scores = np.concatenate([*lines["scores"], np.zeros(0)]).reshape(len(true), -1)
    label = scores[np.arange(len(true)), predicted]
    return {"event": (event[valid], true[valid] < scores.shape[1] - 1), "label": (label[valid], (true == predicted)[valid])}


def attention(scores: Scores) -> Tensor | None:
    return scores.attention


def tracks(scores: Scores, mask: Tensor, classes: Sequence[str], segment_seconds: float = 1.0) -> Tracks:
    """The answer for one clip (scores and mask with B = 1)."""
    decided = decide(scores, mask)[0].numpy()
    valid = mask[0].numpy().copy()
    return Tracks(
        classes=tuple(classes),
        scores={"audio_visual": scores.segments[0, :, :-1].float().numpy() * valid[:, None]},
        active={"audio_visual": (decided[:, None] == np.arange(len(classes))) & valid[:, None]},
        valid=valid,
    )


def table_tracks(
    lines: pd.DataFrame, classes: Sequence[str], segment_seconds: float = 1.0
) -> tuple[Tracks, dict[TrackName, NDArray[np.bool_]]]:
    """The answer for one clip from its T lines, and the truth by track, (T, C) bool."""
    number = np.arange(len(classes))
    valid = lines["valid"].to_numpy(dtype=bool)
    scores = np.stack(list(lines["scores"]))[:, :-1].astype(np.float32)
    active, true = (lines[column].to_numpy()[:, None] == number for column in ("predicted", "true"))
    tracks = Tracks(tuple(classes), {"audio_visual": scores * valid[:, None]}, {"audio_visual": active & valid[:, None]}, valid)
    return tracks, {"audio_visual": true & valid[:, None]}


def lanes(lines: pd.DataFrame, num_classes: int, segment_seconds: float = 1.0) -> list[Lane]:
    """One lane; its scores are the probabilities of an event."""
    true, predicted, valid = (lines[name].tolist() for name in ("true", "predicted", "valid"))
    answers = [_judge(t, p, num_classes) if v else None for t, p, v in zip(true, predicted, valid, strict=True)]
    truth = [(t, "true") if v and t != num_classes else None for t, v in zip(true, valid, strict=True)]
    scores = [float(score) if v else 0.0 for score, v in zip(lines["event"], valid, strict=True)]
    return [Lane("audio_visual", spans_of(truth), spans_of(answers), scores)]


def _judge(true: int, predicted: int, background: int) -> Mark:
    if predicted == background:
        return None if true == background else (true, "missed")
    if predicted == true:
        return predicted, "right"
    return predicted, "false" if true == background else "wrong"


def true_classes(lines: pd.DataFrame, num_classes: int) -> list[int]:
    """The true class of every event segment."""
    return lines["true"][lines["valid"] & (lines["true"] != num_classes)].tolist()


def eventful(lines: pd.DataFrame) -> pd.Index:
    """Annotation rows whose label changes; all rows if there are none."""
    return changing_rows(lines, ("true",))
