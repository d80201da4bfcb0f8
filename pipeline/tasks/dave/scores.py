"""Dense audio-visual event localization: from detections to metrics and the table of predictions.

Shape letters: B, N clips, K detections of a clip, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.errors import PipelineError
from pipeline.metrics.detection import Spans, average_precisions, hulls, match, mean_precisions
from pipeline.metrics.detection_f1 import best_cut, counts_of_videos, event_confusion, f1_of
from pipeline.tasks.dave.targets import EventTargets

MOST = 100  # K, detections kept of a clip
OVERLAP = 0.5  # that an event found must reach, for F1, the pictures and the threshold
UNCALIBRATED = 0.5  # threshold of a method before its calibration
LINES = ("clip", "true", "found")  # kinds of lines of the table


@dataclass
class DetectionScores(Tensors):
    """The detections of B clips by falling score, after suppression of overlapping ones; a clip's depend on no other clip.

    spans: (B, K, 2), float32, start and end in seconds from the start of the clip; 0 in padding.
    labels: (B, K), int64 in [0, C); -1 in padding.
    scores: (B, K), float32 in [0, 1]; 0 in padding.
    threshold: (B,), float32; a detection is an event if its score is at least this: :func:`calibrated` of the method on validation.
    """

    spans: Tensor
    labels: Tensor
    scores: Tensor
    threshold: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def finite(self, mask: Tensor) -> Tensor:
        parts = [torch.isfinite(part).flatten(start_dim=1).all(dim=1) for part in (self.spans, self.scores, self.threshold[:, None])]
        return torch.stack(parts).all(dim=0)

    @classmethod
    def of(cls, found: Sequence[Spans], threshold: Tensor) -> DetectionScores:
        """Bundle detections of B clips on the CPU, by falling score, at most :data:`MOST` each; ``threshold`` is a scalar."""
        spans, scores = torch.zeros(len(found), MOST, 2), torch.zeros(len(found), MOST)
        labels = torch.full((len(found), MOST), -1)
        for number, one in enumerate(found):
            assert one.scores is not None
            count = len(one.labels)
            spans[number, :count], labels[number, :count] = torch.from_numpy(one.spans), torch.from_numpy(one.labels)
            scores[number, :count] = torch.from_numpy(one.scores)
        return cls(spans, labels, scores, threshold.detach().float().cpu().expand(len(found)).clone())


def calibrated(scores: DetectionScores, truth: EventTargets) -> Tensor:
    """The threshold with the highest F1 at an overlap of 0.5, over all events of validation together.

    A scalar, for ``Method.calibrated``.
    """
    return torch.tensor(best_cut(match(_found(scores, truth.seconds), _true(truth), _classes(scores, truth), (OVERLAP,)), UNCALIBRATED))


def _classes(scores: DetectionScores, truth: EventTargets) -> int:
    return 1 + int(max((labels.max() for labels in (scores.labels, truth.labels) if labels.numel()), default=0))


def _found(scores: DetectionScores, seconds: Tensor) -> list[Spans]:
    """The detections of each clip, cut off at its end."""
    cut = torch.minimum(scores.spans.clamp(min=0), seconds[:, None, None]).numpy()
    parts = zip(cut, scores.labels.numpy(), scores.scores.float().numpy(), strict=True)
    return [Spans(spans[labels >= 0], labels[labels >= 0], values[labels >= 0]) for spans, labels, values in parts]


def _true(truth: EventTargets) -> list[Spans]:
    parts = zip(truth.spans.numpy(), truth.labels.numpy(), strict=True)
    return [Spans(spans[labels >= 0], labels[labels >= 0]) for spans, labels in parts]


def decide(scores: DetectionScores, mask: Tensor) -> DetectionScores:
    """Return the scores: average precision needs no decision, and they hold the threshold."""
    return scores


def score(decided: DetectionScores, truth: EventTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """All metrics of the task as plain JSON, in percent.

    Returns:
        ``mAP``: the headline, the mean of ``mAP@0.1`` to ``mAP@0.9``, each over the classes with a true event.
        ``recall@100``: share of true events found by any detection, mean over the nine overlaps.
        ``f1@0.5``: mean over clips of F1 of the detections that reach the threshold; 100 where there is nothing to find nor found.
        ``micro_f1@0.5``: likewise of the events of all clips together.
        ``threshold``: mean over clips.
        ``class_mAP``: C values, mean over the nine overlaps; None for a class without a true event.
        ``confusion``: (C+1) x (C+1) counts of true events by the class found there, see
        :func:`pipeline.metrics.detection_f1.event_confusion`.
        ``baseline_...``: mAP of answers that know nothing (every class lasts the whole clip), the clip's true classes (whole clip), or for
        each of these the hull of its events.

    Raises:
        PipelineError: no clip has an event.
    """
    true = _true(truth)
    if not any(len(one.labels) for one in true):
        raise PipelineError(f"dense localization: none of {len(true)} clips has an audio-visual event; nothing can be scored on this split")
    found = _found(decided, truth.seconds)
    matches = match(found, true, num_classes)
    means, of_classes = mean_precisions(matches), average_precisions(matches).mean(axis=1)
    events = _passing(found, decided.threshold)
    counts = counts_of_videos(match(events, true, num_classes, (OVERLAP,)))
    return {
        **means,
        "recall@100": 100.0 * float(matches.right.sum(axis=0).mean()) / int(matches.events.sum()),
        "f1@0.5": float(f1_of(counts).mean()),
        "micro_f1@0.5": float(f1_of(counts.sum(axis=0))),
        "threshold": float(decided.threshold.mean()),
        "confusion": event_confusion(events, true, num_classes, OVERLAP).tolist(),
        "class_mAP": [None if np.isnan(value) else 100.0 * float(value) for value in of_classes],
        **{f"baseline_{name}": mean_precisions(match(answer, true, num_classes))["mAP"] for name, answer in trivial(truth, num_classes)},
    }


def _passing(found: Sequence[Spans], threshold: Tensor) -> list[Spans]:
    """The detections of each clip that reach its threshold."""
    kept = [(one, one.scores >= limit) for one, limit in zip(found, threshold.numpy(), strict=True) if one.scores is not None]
    return [Spans(one.spans[on], one.labels[on], None if one.scores is None else one.scores[on]) for one, on in kept]


def trivial(truth: EventTargets, num_classes: int) -> list[tuple[str, list[Spans]]]:
    """Answers by name that need no network; all scores are 1, so only the choice of spans counts."""
    true = _true(truth)
    wholes = [np.array([[0.0, seconds]], np.float32) for seconds in truth.seconds.tolist()]
    every = [Spans(whole.repeat(num_classes, axis=0), np.arange(num_classes), np.ones(num_classes, np.float32)) for whole in wholes]
    over = [hulls(one) for one in true]
    told = [Spans(whole.repeat(len(one.labels), axis=0), one.labels, one.scores) for whole, one in zip(wholes, over, strict=True)]
    return [("every_class_whole_clip", every), ("true_classes_whole_clip", told), ("true_classes_hull", over)]


def table(scores: DetectionScores, decided: DetectionScores, truth: EventTargets, mask: Tensor) -> pd.DataFrame:
    """The predictions, clip by clip: a line for the clip, one for each true event, and one for each detection.

    Columns: clip_number; kind (one of :data:`LINES`); start, end (seconds); label (-1 in a clip's line); score (of a detection, 1 for the
    truth, and in a clip's line the threshold).
    """
    columns = ["clip_number", "kind", "start", "end", "label", "score"]
    lengths, thresholds = truth.seconds.numpy(), decided.threshold.numpy()
    parts = []
    for number, (found, true) in enumerate(zip(_found(decided, truth.seconds), _true(truth), strict=True)):
        whole = Spans(np.array([[0.0, lengths[number]]]), np.array([-1]), thresholds[number : number + 1])
        for kind, one in zip(LINES, (whole, true, found), strict=True):
            scored = np.ones(len(one.labels), np.float32) if one.scores is None else one.scores
            parts.append((np.full(len(scored), number), np.full(len(scored), kind), *one.spans.T.astype(np.float32), one.labels, scored))
    return pd.DataFrame({name: np.concatenate(of_column) for name, of_column in zip(columns, zip(*parts, strict=True), strict=True)})
