"""Predictions of audio-visual video parsing as tracks, for files and pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline.tasks.avvp.scores import PERCEIVED, ParsingScores, decide, switched_on
from pipeline.tasks.tracks import Perceived, Tracks


def tracks(scores: ParsingScores, mask: Tensor, classes: Sequence[str]) -> Tracks:
    """What is said of one clip (scores and mask with N = 1), on the tracks ``heard`` and ``seen``."""
    decided = decide(scores, mask)[0].numpy()
    valid = mask[0].numpy().copy()
    return Tracks(
        classes=tuple(classes),
        scores={name: getattr(scores, name)[0].float().numpy() * valid[:, None] for name in PERCEIVED},
        active=dict(zip(PERCEIVED, decided, strict=True)),
        valid=valid,
    )


def table_tracks(lines: pd.DataFrame, classes: Sequence[str]) -> tuple[Tracks, dict[Perceived, NDArray[np.bool_]]]:
    """What :func:`table` says of one clip (its T lines, by segment) as tracks, and the truth by track, (T, C) bool."""
    valid = lines["valid"].to_numpy(dtype=bool)
    scores = {name: np.stack(list(lines[f"scores_{name}"])).astype(np.float32) * valid[:, None] for name in PERCEIVED}
    active = {name: switched_on(lines[name], len(classes)) for name in PERCEIVED}
    true = {name: switched_on(lines[f"true_{name}"], len(classes)) & valid[:, None] for name in PERCEIVED}
    return Tracks(tuple(classes), scores, active, valid), true
