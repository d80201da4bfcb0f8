"""Predictions of audio-visual event localization as tracks, for files and pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline.tasks.avel.scores import Scores, decide
from pipeline.tasks.tracks import TrackName, Tracks


def tracks(scores: Scores, mask: Tensor, classes: Sequence[str]) -> Tracks:
    """What is said of one clip (scores and mask with B = 1), on the one track ``audio_visual``: the task's events are both."""
    decided = decide(scores, mask)[0].numpy()
    valid = mask[0].numpy().copy()
    return Tracks(
        classes=tuple(classes),
        scores={"audio_visual": scores.segments[0, :, :-1].float().numpy() * valid[:, None]},
        active={"audio_visual": (decided[:, None] == np.arange(len(classes))) & valid[:, None]},
        valid=valid,
    )


def table_tracks(lines: pd.DataFrame, classes: Sequence[str]) -> tuple[Tracks, dict[TrackName, NDArray[np.bool_]]]:
    """What :func:`table` says of one clip (its T lines, by segment) as tracks, and the truth by track, (T, C) bool."""
    number = np.arange(len(classes))
    valid = lines["valid"].to_numpy(dtype=bool)
    scores = np.stack(list(lines["scores"]))[:, :-1].astype(np.float32)
    active, true = (lines[column].to_numpy()[:, None] == number for column in ("predicted", "true"))
    tracks = Tracks(tuple(classes), {"audio_visual": scores * valid[:, None]}, {"audio_visual": active & valid[:, None]}, valid)
    return tracks, {"audio_visual": true & valid[:, None]}
