"""Cross-modality localization: from scores to answers, metrics and the table of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batch import Tensors
from pipeline.errors import PipelineError
from pipeline.layers.matching import fits
from pipeline.metrics.matching import exact_starts, mean_overlap, trivial_answers
from pipeline.tasks.cml.targets import MatchingTargets, Questions, questions

DIRECTIONS = ("a2v", "v2a")


@dataclass
class MatchingScores(Tensors):
    """Fit of every window of one modality to every window of the same length of the other; higher is better.

    audio_to_visual: (B, L, T, T) with L = T: by length - 1, start of the given audio window, and start of the searched visual window.
        Values of windows that extend beyond their clip are meaningless.
    visual_to_audio: likewise with the roles exchanged.
    """

    audio_to_visual: Tensor
    visual_to_audio: Tensor

    def finite(self, mask: Tensor) -> Tensor:
        within = fits(mask)
        both = within.unsqueeze(3) & within.unsqueeze(2)
        right = torch.isfinite(self.audio_to_visual) & torch.isfinite(self.visual_to_audio)
        return (right | ~both).flatten(start_dim=1).all(dim=1)


def decide(scores: MatchingScores, mask: Tensor) -> Tensor:
    """The best answer to every possible question, the first if several are equal.

    Returns:
        (B, 2 directions, L, T), int64: first segment of the answer, by length - 1 and start of the given window.
    """
    possible = fits(mask).unsqueeze(2)  # possible answers, for any start of the given window
    found = [scores.audio_to_visual, scores.visual_to_audio]
    return torch.stack([one.masked_fill(~possible, float("-inf")).argmax(dim=-1) for one in found], dim=1)


def score(decided: Tensor, truth: MatchingTargets, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
    """All metrics of the task as plain JSON, in percent.

    Returns:
        ``accuracy``: the headline, the mean of ``a2v`` and ``v2a``.
        ``a2v``, ``v2a``: exact starts.
        ``a2v_iou``, ``v2a_iou``: mean overlap.
        ``asked``: the number of clips with questions.
        ``baseline_...``: :func:`pipeline.metrics.matching.trivial_answers`, equal in both directions.

    Raises:
        PipelineError: no clip of the split poses a question.
    """
    asking = questions(truth, mask)
    asked, start, length = asking.asked, asking.start[asking.asked], asking.length[asking.asked]
    if not asked.any():
        raise PipelineError(
            f"cross-modality localization: none of {len(asked)} clips has an unbroken event of at least two segments that is shorter than"
            " the clip; nothing can be scored on this split"
        )
    answers = _answers(decided, asking)[asked]
    exact = {name: exact_starts(answers[:, number], start) for number, name in enumerate(DIRECTIONS)}
    return {
        "accuracy": sum(exact.values()) / len(exact),
        **exact,
        **{f"{name}_iou": mean_overlap(answers[:, number], start, length) for number, name in enumerate(DIRECTIONS)},
        "asked": int(asked.sum()),
        **{f"baseline_{name}": value for name, value in trivial_answers(start, length, asking.segments[asked]).items()},
    }


def _answers(decided: Tensor, asking: Questions) -> NDArray[np.int64]:
    """The decided start for each clip's question in both directions, (N, 2)."""
    return decided.numpy()[np.arange(len(decided)), :, np.maximum(asking.length, 1) - 1, asking.start]


def table(scores: MatchingScores, decided: Tensor, truth: MatchingTargets, mask: Tensor) -> pd.DataFrame:
    """The predictions, two lines per clip, one per direction.

    Columns: clip_number, direction, valid (the clip poses a question), true (start), predicted (start), length.
    """
    asking = questions(truth, mask)
    return pd.DataFrame({
        "clip_number": np.arange(len(decided)).repeat(len(DIRECTIONS)),
        "direction": list(DIRECTIONS) * len(decided),
        "valid": asking.asked.repeat(2),
        "true": asking.start.repeat(2),
        "predicted": _answers(decided, asking).ravel(),
        "length": asking.length.repeat(2),
    })  # fmt: skip
