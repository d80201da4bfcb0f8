"""Views of audio-visual video parsing predictions for files, pictures and the report.

The tracks are ``audio`` and ``visual``. Classes are scored independently: a confusion shows as a miss plus a false alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.bootstrap import Difference, mean_intervals
from pipeline.metrics.parsing import KINDS, LEVELS, SCORES, count
from pipeline.metrics.parsing import clip_scores as scores_of_clips
from pipeline.tasks.avvp.scores import HEADLINE, ParsingScores, decide
from pipeline.tasks.avvp.targets import MODALITIES
from pipeline.tasks.grid import ScoreGrid
from pipeline.tasks.lanes import Lane, Span, spans_of
from pipeline.tasks.means import changing_rows, compare_means
from pipeline.tasks.tracks import TrackName, Tracks

ByTrack = dict[TrackName, np.ndarray]

SECONDARY: Mapping[str, str] = {
    "segment/A": "Segment A", "segment/V": "Segment V", "segment/AV": "Segment AV", "segment/Type@AVo": "Segment Type@AVo",
    "event/Type@AV": "Event Type@AV", "present/segment/Ao": "Segment Ao, clips that have it",
    "present/segment/Vo": "Segment Vo, clips that have it",
}  # fmt: skip
CLIP_SCORE = HEADLINE
has_tracks = True
COMPARED: tuple[str, ...] = ("segment", "valid", *(f"{part}{track}" for track in MODALITIES for part in ("true_", "")))
SHOWN: tuple[str, ...] = ("segment", "valid", *(f"{part}{track}" for track in MODALITIES for part in ("true_", "", "scores_")))
CONFIDENT: tuple[str, ...] = ()


def switched_on(numbers: Sequence[NDArray[np.int64]], num_classes: int) -> NDArray[np.bool_]:
    """Active classes (T, C) bool, from class numbers by segment."""
    on = np.zeros((len(numbers), num_classes), dtype=bool)
    for line, of_segment in zip(on, numbers, strict=True):
        line[np.asarray(of_segment, dtype=np.int64)] = True
    return on


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """The clip's headline by annotation row: ``score`` (percent, mean over seeds) and ``weight`` 1."""
    return all_clip_scores(lines)[[HEADLINE]].rename(columns={HEADLINE: "score"}).assign(weight=1)


def all_clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """All published scores of the clip by annotation row (percent, mean over seeds)."""
    keys = [*(["seed"] if "seed" in lines else []), "row"]
    ordered = lines.sort_values([*keys, "segment"])
    clip, segment = ordered.groupby(keys).ngroup().to_numpy(), ordered["segment"].to_numpy()
    columns = ("audio", "visual", "true_audio", "true_visual")
    named = [np.concatenate([*ordered[column], np.zeros(1, np.int64)]) for column in columns]
    num_classes = 1 + int(max(numbers.max() for numbers in named))  # a class that never occurs counts in no clip
    tables = np.zeros((len(columns), clip.max() + 1, num_classes, segment.max() + 1), dtype=bool)
    for one, column in zip(tables, columns, strict=True):
        one[clip, :, segment] = switched_on(ordered[column], num_classes)
    valid = np.zeros((clip.max() + 1, segment.max() + 1), dtype=bool)
    valid[clip, segment] = ordered["valid"]
    of_clips = pd.DataFrame(scores_of_clips(count(tables[0], tables[1], tables[2], tables[3], valid)))
    return of_clips.groupby(ordered["row"].to_numpy()[np.unique(clip, return_index=True)[1]]).mean().rename_axis("row")


def compare(first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
    """First minus second in the headline; all clips weigh the same."""
    return compare_means(clip_scores(first), None if second is None else clip_scores(second), groups)


def differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame | None:
    """First minus second in every published score, over the common clips.

    Returns:
        ``mean``, ``low``, ``high`` by key; None without common clips.
    """
    ours, theirs = all_clip_scores(first), all_clip_scores(second)
    common = ours.index.intersection(theirs.index)
    if common.empty:
        return None
    gain = ours.loc[common] - theirs.loc[common]
    low, high = mean_intervals(gain).T
    return pd.DataFrame({"mean": gain.mean(), "low": low, "high": high})


GRID: ScoreGrid | None = ScoreGrid(
    title="Parsing, every score beside trivial answers",
    note=(
        "as published: a clip without a true or predicted event of a kind counts as perfect, ± half the 95 % interval over"
        " clips (bootstrap); clips that have it: leaves these clips out; micro: F from the counts of all clips and classes together."
        " Ao: audio and not visual, Vo: visual and not audio. Which classes are rarely on is learned from validation."
        " Differences are as published, means over seeds, paired over"
        " clips (bootstrap)."
    ),
    class_title="Parsing, class by class",
    class_note="in no clip true or predicted.",
    levels=LEVELS,
    scores=SCORES,
    rules={"as published": "", "clips that have it": "present/", "micro": "micro/"},
    trivial={
        "nothing": "(nothing, always)",
        "weak_label": "(the clip's true labels, always)",
        "class_prior": "(the same, without classes on in under 25 % of their clips' segments)",
        "majority_prior": "(the same, without classes on in under 50 % of their clips' segments)",
    },
    class_scores=KINDS,
    differences=differences,
)


def confidences(lines: pd.DataFrame) -> dict[str, tuple[NDArray, NDArray]]:
    return {}


def attention(scores: ParsingScores) -> Tensor | None:
    return None


def tracks(scores: ParsingScores, mask: Tensor, classes: Sequence[str], segment_seconds: float = 1.0) -> Tracks:
    """The answer for one clip (scores and mask with N = 1)."""
    decided = decide(scores, mask)[0].numpy()
    valid = mask[0].numpy().copy()
    return Tracks(
        classes=tuple(classes),
        scores={name: getattr(scores, name)[0].float().numpy() * valid[:, None] for name in MODALITIES},
        active=dict(zip(MODALITIES, decided, strict=True)),
        valid=valid,
    )


def table_tracks(lines: pd.DataFrame, classes: Sequence[str], segment_seconds: float = 1.0) -> tuple[Tracks, ByTrack]:
    """The answer for one clip from its T lines, and the truth by track, (T, C) bool."""
    valid = lines["valid"].to_numpy(dtype=bool)
    scores: ByTrack = {name: np.stack(list(lines[f"scores_{name}"])).astype(np.float32) * valid[:, None] for name in MODALITIES}
    active: ByTrack = {name: switched_on(lines[name], len(classes)) for name in MODALITIES}
    true: ByTrack = {name: switched_on(lines[f"true_{name}"], len(classes)) & valid[:, None] for name in MODALITIES}
    return Tracks(tuple(classes), scores, active, valid), true


def lanes(lines: pd.DataFrame, num_classes: int, segment_seconds: float = 1.0) -> list[Lane]:
    """One lane per track; spans of different classes may overlap, and scores are those of the likeliest class."""
    valid = lines["valid"].to_numpy(dtype=bool)
    found = []
    for track in MODALITIES:
        true, said = (switched_on(lines[column], num_classes) & valid[:, None] for column in (f"true_{track}", track))
        truth: list[Span] = []
        spans: list[Span] = []
        for number in np.flatnonzero((true | said).any(axis=0)).tolist():
            pairs = list(zip(true[:, number], said[:, number], strict=True))
            truth += spans_of([(number, "true") if t else None for t, _ in pairs])
            spans += spans_of([(number, ("right" if t else "false") if s else "missed") if t or s else None for t, s in pairs])
        scores = [float(max(of_segment)) if v else 0.0 for of_segment, v in zip(lines[f"scores_{track}"], valid, strict=True)]
        found.append(Lane(track, truth, spans, scores))
    return found


def true_classes(lines: pd.DataFrame, num_classes: int) -> list[int]:
    """The true classes of all segments, one entry per segment, class and modality."""
    valid = lines[lines["valid"]]
    return [int(number) for track in MODALITIES for numbers in valid[f"true_{track}"] for number in numbers]


def eventful(lines: pd.DataFrame) -> pd.Index:
    """Annotation rows whose labels change in either modality; all rows if there are none."""
    return changing_rows(lines, tuple(f"true_{track}" for track in MODALITIES))
