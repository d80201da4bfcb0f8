"""One pair of thresholds for all classes, and the shares of two fused passes, tuned on validation.

CMPAE's and CoLeaF's were tuned on LLP; on another data set they are chosen by the headline of parsing with audio-visual events alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.metrics.parsing_thresholds import tune_gates
from pipeline.tasks.avvp import ParsingScores
from pipeline.tasks.avvp_av import JointTargets

Fusion = tuple[dict[str, Tensor], ParsingScores]  # buffers to store for these shares, and the scores under them


def tuned(fusions: Iterable[Fusion], truth: Any, mask: Tensor) -> dict[str, Tensor]:
    """Choose the gates, and among the fusions, with the highest ``segment/AV``; the first of equals.

    Args:
        fusions: of the scores of all validation clips.
        truth: of the task ``avvp_av``.
        mask: (N, T), bool.

    Returns:
        ``tuned_gates`` (2,), of a segment and of a clip, and the buffers of the fusion.

    Raises:
        PipelineError: the truth is that of another task.
    """
    if not isinstance(truth, JointTargets):
        raise PipelineError("thresholds: tuned needs the task avvp_av; choose that task, or other thresholds")
    true = (truth.segments & mask.unsqueeze(-1)).numpy()
    best, kept = -1.0, dict[str, Tensor]()
    for buffers, scores in fusions:
        segments = torch.minimum(scores.audio, scores.visual).float() * mask.unsqueeze(-1)
        clips = torch.minimum(scores.clip_audio, scores.clip_visual).float()
        *gates, found = tune_gates(segments.numpy(), clips.numpy(), true)
        if found > best:
            best, kept = found, {"tuned_gates": torch.tensor(gates), **buffers}
    return kept
