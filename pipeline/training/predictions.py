"""What a network says of the rows of a split, and how good it is. Apart from the loop, whose libraries take seconds to import.

Shape letters: N rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.tasks import Task
from pipeline.training.data import SplitData


@torch.no_grad()
def predictions(model: Any, task: Task, data: SplitData, dtype: torch.dtype, batch_size: int) -> tuple[Any, Tensor]:
    """(scores of all N rows, labels decided by the task), both on the CPU and in row order."""
    model.eval()
    parts = []
    for rows in torch.arange(len(data)).split(batch_size):
        batch, _ = data.batch(rows.to(data.features.visual.device), dtype)
        parts.append(model.predict(batch).to("cpu"))
    scores = type(parts[0]).concatenate(parts)
    return scores, task.decide(scores, data.features.mask.cpu())


def evaluate(model: Any, task: Task, data: SplitData, dtype: torch.dtype, batch_size: int) -> dict[str, Any]:
    """The task's metrics on a split."""
    _, decided = predictions(model, task, data, dtype, batch_size)
    return task.score(decided, data.targets.to("cpu"), data.features.mask.cpu(), data.num_classes, data.segment_seconds)
