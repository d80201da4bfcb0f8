"""Views of parsing with audio-visual events alone: parsing's, with one track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.bootstrap import Difference
from pipeline.tasks import avvp
from pipeline.tasks.avvp import ParsingScores
from pipeline.tasks.avvp.shown import GRID as PARSING
from pipeline.tasks.avvp.shown import all_clip_scores, differences
from pipeline.tasks.avvp_av.scores import HEADLINE, KEPT
from pipeline.tasks.grid import ScoreGrid
from pipeline.tasks.lanes import Lane
from pipeline.tasks.means import compare_means
from pipeline.tasks.tracks import TrackName, Tracks

CLIP_SCORE = HEADLINE
SECONDARY: Mapping[str, str] = {"event/AV": "Event AV", "mAP": "mAP", "mAP@0.5": "mAP@0.5"}


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """The clip's headline by annotation row: ``score`` (percent, mean over seeds) and ``weight`` 1."""
    return all_clip_scores(lines)[[HEADLINE]].rename(columns={HEADLINE: "score"}).assign(weight=1)


def compare(first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
    """First minus second in the headline; all clips weigh the same."""
    return compare_means(clip_scores(first), None if second is None else clip_scores(second), groups)


def one_track(parsed: Tracks) -> Tracks:
    """One track from audio and visual: the lesser probability, and the classes found in both."""
    scores, active = (list(part.values()) for part in (parsed.scores, parsed.active))
    return replace(parsed, scores={"audio_visual": np.minimum(*scores)}, active={"audio_visual": np.logical_and(*active)})


def tracks(scores: ParsingScores, mask: Tensor, classes: Sequence[str], segment_seconds: float = 1.0) -> Tracks:
    """The answer for one clip (scores and mask with N = 1)."""
    return one_track(avvp.tracks(scores, mask, classes, segment_seconds))


def table_tracks(
    lines: pd.DataFrame, classes: Sequence[str], segment_seconds: float = 1.0
) -> tuple[Tracks, dict[TrackName, NDArray]]:  # fmt: skip
    """The answer for one clip from its T lines, and the truth, (T, C) bool."""
    parsed, true = avvp.table_tracks(lines, classes, segment_seconds)
    return one_track(parsed), {"audio_visual": true["audio"]}


def lanes(lines: pd.DataFrame, num_classes: int, segment_seconds: float = 1.0) -> list[Lane]:
    """One lane; spans of different classes may overlap."""
    audio, visual = avvp.lanes(lines, num_classes, segment_seconds)
    scores = [min(pair) for pair in zip(audio.scores, visual.scores, strict=True)]
    return [Lane("audio_visual", audio.truth, audio.spans, scores)]


def true_classes(lines: pd.DataFrame, num_classes: int) -> list[int]:
    """The true classes of all segments, one entry per segment and class."""
    both = avvp.true_classes(lines, num_classes)
    return both[: len(both) // 2]  # the same of audio and of visual


def kept_differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame | None:
    """First minus second in the scores of audio-visual events."""
    found = differences(first, second)
    return None if found is None else found.loc[list(KEPT)]


assert PARSING is not None
GRID: ScoreGrid | None = replace(
    PARSING,
    title="Parsing of audio-visual events, beside trivial answers",
    note=(
        "as published: a clip without a true or predicted event counts as perfect, ± half the 95 % interval over clips (bootstrap); clips"
        " that have it: leaves these clips out; micro: F from the counts of all clips and classes together. What is heard or seen alone is"
        " not labelled and not scored. Differences are as published, means over seeds, paired over clips (bootstrap)."
    ),
    scores=("AV",),
    class_scores=("AV",),
    differences=kept_differences,
)
