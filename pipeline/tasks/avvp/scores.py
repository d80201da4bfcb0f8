"""Audio-visual video parsing: from scores to active classes, metrics and the table of predictions.

Shape letters: N clips, T segments, C classes; the order of the modalities is audio, visual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.metrics.bootstrap import mean_intervals
from pipeline.metrics.parsing import LEVELS, ParsingCounts, class_scores, count, micro_scores, scores_of
from pipeline.metrics.parsing import clip_scores as scores_of_clips
from pipeline.tasks.avvp.targets import MODALITIES, ParsingTargets

HEADLINE = "segment/Type@AV"
MEANS_OF_TEN = {"mean_of_ten": ("A", "V", "AV", "Type@AV", "Event@AV"), "mean_of_ten_new": ("Ao", "Vo", "AV", "Type@AVo", "Event@AVo")}
RESAMPLES = 2_000  # for the intervals; kept small because they are computed at every validation


@dataclass
class ParsingScores(Tensors):
    """A parsing method's scores of B clips, with the thresholds for the decision.

    audio, visual: (B, T, C), probability of a class in a segment, by modality.
    clip_audio, clip_visual: (B, C), probability of a class in the whole clip, by modality; equal for a method with one clip probability.
    thresholds: (B, 2, 2, C), of [audio, visual] x [segment, clip]; a probability passes if it is at least the threshold.
    unfused: of a method that fuses two passes and has yet to tune their shares, the fields above of the second pass, by name.
    """

    audio: Tensor
    visual: Tensor
    clip_audio: Tensor
    clip_visual: Tensor
    thresholds: Tensor
    unfused: dict[str, Tensor] = field(default_factory=dict)


def decide(scores: ParsingScores, mask: Tensor) -> Tensor:
    """The active classes of every segment by modality; none in padded segments.

    A class is active where the segment's and the clip's probability both reach their thresholds.

    Returns:
        (N, 2, T, C), bool.
    """
    segments = torch.stack([scores.audio, scores.visual], dim=1)
    clips = torch.stack([scores.clip_audio, scores.clip_visual], dim=1)
    on = (segments >= scores.thresholds[:, :, 0].unsqueeze(2)) & (clips >= scores.thresholds[:, :, 1]).unsqueeze(2)
    return on & mask[:, None, :, None]


def score(decided: Tensor, truth: ParsingTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """All metrics of the task as plain JSON, in percent; None where nothing can be scored.

    Args:
        decided: (N, 2, T, C), bool, on the CPU.
        mask: (N, T), bool, on the CPU.

    Returns:
        ``segment/A`` ... ``event/Event@AVo``: as published (:mod:`pipeline.metrics.parsing`); an empty clip counts as perfect.
        ``present/KEY``: likewise, over the clips with a true or predicted event of the kind.
        ``micro/KEY``: F-scores from the counts of all clips and classes together.
        ``mean_of_ten``, ``mean_of_ten_new``: means with which CMPAE and CoLeaF pick an epoch, over A, V, AV, Type@AV, Event@AV, or over Ao,
        Vo, AV, Type@AVo, Event@AVo, at both levels.
        ``intervals``: [low, high] by KEY, 95 %, by bootstrap over clips.
        ``classes``: C F-scores by KEY, each over all clips.
        ``trivial``: by KEY and ``present/KEY``, for the answers ``nothing`` and ``weak_label`` (the clip's true labels in all segments,
        audio and visual); ``baseline_nothing``, ``baseline_weak_label``: the headline of each.
    """
    audio, visual = (table.transpose(1, 2).numpy() for table in (truth.audio, truth.visual))
    said = decided.transpose(2, 3).numpy()
    valid = mask.numpy()
    counts = count(said[:, 0], said[:, 1], audio, visual, valid)
    nothing = np.zeros_like(audio)
    everywhere = np.broadcast_to(truth.labels.numpy()[:, :, None], audio.shape)
    trivial = {
        name: both_rules(count(answer, answer, audio, visual, valid)) for name, answer in (("nothing", nothing), ("weak_label", everywhere))
    }
    scores = both_rules(counts)
    return {
        **scores,
        **{name: _mean([scores[f"{level}/{key}"] for level in LEVELS for key in keys]) for name, keys in MEANS_OF_TEN.items()},
        **{f"micro/{key}": _number(value) for key, value in micro_scores(counts).items()},
        **{f"baseline_{name}": scores[HEADLINE] for name, scores in trivial.items()},
        "intervals": intervals(counts),
        "classes": {key: [_number(value) for value in values] for key, values in class_scores(counts).items()},
        "trivial": trivial,
    }


def both_rules(counts: ParsingCounts) -> dict[str, float | None]:
    """The published scores, and under ``present/`` those over the clips with an event of the kind."""
    present = scores_of(counts, empty="skip")
    return {key: _number(value) for key, value in scores_of(counts).items()} | {
        f"present/{key}": _number(value) for key, value in present.items()
    }


def intervals(counts: ParsingCounts) -> dict[str, list[float]]:
    """Bootstrap interval [low, high] of every published score; empty without clips."""
    of_clips = scores_of_clips(counts)
    table = np.stack(list(of_clips.values()), axis=1)
    return dict(zip(of_clips, mean_intervals(table, resamples=RESAMPLES).tolist(), strict=True)) if len(table) else {}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def table(scores: ParsingScores, decided: Tensor, truth: ParsingTargets, mask: Tensor) -> pd.DataFrame:
    """The predictions, one line per segment, clip by clip.

    Columns: clip_number, segment, valid; true_audio, true_visual, audio, visual, the numbers of the active classes; scores_audio,
    scores_visual, (C,) each.
    """
    clips, segments = mask.shape
    lines: dict[str, Any] = {"clip_number": np.repeat(np.arange(clips), segments), "segment": np.tile(np.arange(segments), clips)}
    lines["valid"] = mask.flatten().numpy()
    for position, name in enumerate(MODALITIES):
        lines[f"true_{name}"] = _numbers(getattr(truth, name))
        lines[name] = _numbers(decided[:, position])
        lines[f"scores_{name}"] = list(getattr(scores, name).float().flatten(0, 1).numpy())
    return pd.DataFrame(lines)


def _numbers(on: Tensor) -> list[NDArray[np.int64]]:
    """Numbers of the active classes by segment, from (N, T, C) bool."""
    return [np.flatnonzero(line) for line in on.flatten(0, 1).numpy()]
