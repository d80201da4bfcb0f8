"""Predictions of audio-visual video parsing as tracks, for files and pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.tasks.avvp.scores import ParsingScores, decide, switched_on
from pipeline.tasks.avvp.targets import MODALITIES
from pipeline.tasks.tracks import TrackName, Tracks

ByTrack = dict[TrackName, np.ndarray]


def tracks(scores: ParsingScores, mask: Tensor, classes: Sequence[str]) -> Tracks:
    """What is said of one clip (scores and mask with N = 1), on the tracks ``audio`` and ``visual``."""
    decided = decide(scores, mask)[0].numpy()
    valid = mask[0].numpy().copy()
    return Tracks(
        classes=tuple(classes),
        scores={name: getattr(scores, name)[0].float().numpy() * valid[:, None] for name in MODALITIES},
        active=dict(zip(MODALITIES, decided, strict=True)),
        valid=valid,
    )


def table_tracks(lines: pd.DataFrame, classes: Sequence[str]) -> tuple[Tracks, ByTrack]:
    """What :func:`table` says of one clip (its T lines, by segment) as tracks, and the truth by track, (T, C) bool."""
    valid = lines["valid"].to_numpy(dtype=bool)
    scores: ByTrack = {name: np.stack(list(lines[f"scores_{name}"])).astype(np.float32) * valid[:, None] for name in MODALITIES}
    active: ByTrack = {name: switched_on(lines[name], len(classes)) for name in MODALITIES}
    true: ByTrack = {name: switched_on(lines[f"true_{name}"], len(classes)) & valid[:, None] for name in MODALITIES}
    return Tracks(tuple(classes), scores, active, valid), true
