"""Predictions for the rows of a split, and their scores.

Apart from the loop, because its libraries take seconds to import.

Shape letters: N rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.tasks import Task
from pipeline.training.data import SplitData


def not_finite_clips(scores: Any, data: SplitData) -> list[str]:
    """Clips of a split with a score that is not finite."""
    good = scores.finite(data.mask).tolist()
    return [clip for clip, is_good in zip(data.clips, good, strict=True) if not is_good]


@torch.no_grad()
def predictions(model: Any, task: Task, data: SplitData, dtype: torch.dtype, batch_size: int) -> tuple[Any, Tensor]:
    """Predict all N rows: (scores, labels decided by the task), both on the CPU and in row order."""
    model.eval()
    chunks = torch.arange(len(data)).split(batch_size)
    parts = [model.predict(batch) for batch, _ in data.batches(chunks, dtype)]
    scores = type(parts[0]).concatenate(parts).to("cpu")  # at once: every copy to the host waits for the device
    return scores, task.decide(scores, data.mask)


def score_split(task: Task, data: SplitData, decided: Any) -> dict[str, Any]:
    """Score the decisions for all rows of a split with the task's metrics."""
    return task.score(decided, data.targets.to("cpu"), data.mask, data.num_classes, data.segment_seconds)
