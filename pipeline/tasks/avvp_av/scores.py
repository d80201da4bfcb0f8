"""Parsing with audio-visual events alone: from scores to answers, metrics and the table of predictions.

Shape letters: N clips, T segments, C classes, K detections of a clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.metrics.detection import soft_nms
from pipeline.metrics.parsing import ParsingCounts, class_scores, count, micro_scores, scores_of
from pipeline.metrics.segment_runs import spans_of_runs
from pipeline.tasks import avvp, dave
from pipeline.tasks.avvp import ParsingScores, ParsingTargets
from pipeline.tasks.avvp_av.targets import JointTargets
from pipeline.tasks.dave import DetectionScores

HEADLINE = "segment/AV"
KEPT = ("segment/AV", "event/AV")


@dataclass
class JointAnswers(Tensors):
    """Answers for N clips.

    active: (N, T, C), bool; the class is found in audio and in visual.
    spans, labels, scores: (N, K, ...), detections as in :class:`pipeline.tasks.dave.DetectionScores`, but in segments.
    """

    active: Tensor
    spans: Tensor
    labels: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.active)


def decide(scores: ParsingScores, mask: Tensor) -> JointAnswers:
    """Active classes by segment, and detections from the same probabilities.

    A class's probability is the lesser of its audio and its visual one. Detections are the runs of segments whose probability reaches .1,
    .2 ... .9; one scores the mean probability of its run times that of the clip. Overlapping ones are suppressed as those of a detector.
    """
    segments = torch.minimum(scores.audio, scores.visual).float().numpy() * mask.unsqueeze(-1).numpy()
    clips = torch.minimum(scores.clip_audio, scores.clip_visual).float().numpy()
    runs = [soft_nms(spans_of_runs(of_clip, clip)) for of_clip, clip in zip(segments, clips, strict=True)]
    found = DetectionScores.of(runs, torch.tensor(0.0))
    return JointAnswers(avvp.decide(scores, mask).all(dim=1), found.spans, found.labels, found.scores)


def score(decided: JointAnswers, truth: JointTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """All metrics of the task as plain JSON, in percent; None where nothing can be scored.

    Returns:
        ``segment/AV`` (the headline), ``event/AV``: as published; an empty clip counts as perfect. ``present/KEY``: likewise, over the
        clips with a true or predicted event. ``micro/KEY``: from the counts of all clips and classes together.
        ``mAP``, ``mAP@0.1`` ...: of the detections, as those of a detector (:func:`pipeline.tasks.dave.score`).
        ``intervals``: [low, high] by KEY, 95 %, by bootstrap over clips. ``classes``: C F-scores by KEY.
        ``trivial``: by KEY and ``present/KEY``, for the answers ``nothing`` and ``weak_label`` (the clip's true labels in all segments);
        ``baseline_nothing``, ``baseline_weak_label``: the headline of each. ``baseline_mAP_...``: mAP of the trivial detections.
    """
    true, valid = truth.segments.transpose(1, 2).numpy(), mask.numpy()
    counts = _counts(decided.active.transpose(1, 2).numpy(), true, valid)
    everywhere = np.broadcast_to(truth.labels.numpy()[:, :, None], true.shape)
    answers = {"nothing": np.zeros_like(true), "weak_label": everywhere}
    trivial = {name: _both_rules(_counts(answer, true, valid)) for name, answer in answers.items()}
    seconds = DetectionScores(decided.spans * segment_seconds, decided.labels, decided.scores, torch.zeros(len(decided)))
    precisions = {}
    if (truth.event_labels >= 0).any():
        detected = dave.score(seconds, truth.events, mask, num_classes, segment_seconds)
        precisions = {key: value for key, value in detected.items() if key.startswith("mAP")}
        precisions |= {f"baseline_mAP_{name.removeprefix('baseline_')}": value for name, value in detected.items() if "baseline" in name}
    return {
        **_both_rules(counts),
        **precisions,
        **{f"micro/{key}": _number(micro_scores(counts)[key]) for key in KEPT},
        **{f"baseline_{name}": of_answer[HEADLINE] for name, of_answer in trivial.items()},
        "intervals": {key: value for key, value in avvp.scores.intervals(counts).items() if key in KEPT},
        "classes": {key: [_number(value) for value in class_scores(counts)[key]] for key in KEPT},
        "trivial": trivial,
    }


def prior_scores(truth: JointTargets, mask: Tensor, known: JointTargets, known_mask: Tensor) -> dict[str, Any]:
    """Those of parsing (:func:`pipeline.tasks.avvp.prior_scores`), where every event is heard and seen."""
    of_both, of_known = (ParsingTargets(part.segments, part.segments, part.labels) for part in (truth, known))
    found = avvp.prior_scores(of_both, mask, of_known, known_mask)
    kept = {key for level in KEPT for key in (level, f"present/{level}")}
    scores = {name: {key: value for key, value in of_answer.items() if key in kept} for name, of_answer in found["trivial"].items()}
    headlines = {f"baseline_{name}": of_answer[HEADLINE] for name, of_answer in scores.items()}
    return {"trivial": scores, **headlines, "never": {name: {"audio_visual": of["audio"]} for name, of in found["never"].items()}}


def _counts(said: np.ndarray, true: np.ndarray, valid: np.ndarray) -> ParsingCounts:
    """Counts of tables (N, C, T) in which every event is audio-visual."""
    return count(said, said, true, true, valid)


def _both_rules(counts: ParsingCounts) -> dict[str, float | None]:
    """The published scores, and under ``present/`` those over the clips with an event."""
    every, present = scores_of(counts), scores_of(counts, empty="skip")
    return {key: _number(every[key]) for key in KEPT} | {f"present/{key}": _number(present[key]) for key in KEPT}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def table(scores: ParsingScores, decided: JointAnswers, truth: JointTargets, mask: Tensor) -> pd.DataFrame:
    """The predictions, one line per segment, in the columns of parsing: audio and visual are the same."""
    both = decided.active.unsqueeze(1).expand(-1, 2, -1, -1)
    return avvp.table(scores, both, ParsingTargets(truth.segments, truth.segments, truth.labels), mask)
