"""InfoNCE between the visual and the audio embeddings of clips: He et al., "CACE-Net", ACM MM 2024, Sec. 3.4, Eq. 9.

Shape letters: B clips of this process, W processes, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as differentiable

from pipeline.layers.precision import at_least_float32


def info_nce(
    visual: Tensor, audio: Tensor, temperature: Tensor | float, *,
    groups: Tensor | None = None, symmetric: bool = False, gather: bool = True,
) -> Tensor:  # fmt: skip
    """Mean over i of -log( exp(v_i.a_i / tau) / sum_j exp(v_i.a_j / tau) ), Eq. 9, in log space and float32 at least.

    With several processes the sum runs over the clips of all of them, and the mean of the W results is the loss of the whole batch: so
    are, averaged as DistributedDataParallel does, its gradients. A batch of one clip gives 0, and gradients of 0.

    Args:
        visual, audio: (B, D) each, row i of the same clip; B is the same in every process. Eq. 9 takes dot products as they are.
        temperature: tau > 0, a number or a scalar tensor that may want a gradient.
        groups: (B,) int64; rows of one group show the same clip and are not each other's negatives. None: all differ.
        gather: take the negatives of all processes; False where every process has the whole batch already.
        symmetric: the mean of this direction and the audio-to-visual one, as the released code has it.

    Returns:
        Scalar.
    """
    parts = _Processes.all() if gather else _Processes(1, 0)
    columns = torch.arange(len(visual), device=visual.device) + parts.rank * len(visual)  # where each row's own partner stands
    groups = columns if groups is None else groups
    with torch.autocast(visual.device.type, enabled=False):
        visual, audio = at_least_float32(visual), at_least_float32(audio)
        excluded = groups[:, None] == parts.gathered_numbers(groups)[None, :]
        excluded[torch.arange(len(groups)), columns] = False
        loss = _one_direction(visual, parts.gathered(audio), temperature, excluded, columns)
        if symmetric:
            loss = (loss + _one_direction(audio, parts.gathered(visual), temperature, excluded, columns)) / 2
    return loss


def _one_direction(queries: Tensor, keys: Tensor, temperature: Tensor | float, excluded: Tensor, columns: Tensor) -> Tensor:
    """(B, D) queries, (W B, D) keys, (B, W B) pairs to leave out, (B,) column of each query's own key -> scalar."""
    logits = queries @ keys.T / temperature
    logits = logits.masked_fill(excluded, torch.finfo(logits.dtype).min)
    return torch.nn.functional.cross_entropy(logits, columns)


@dataclass(frozen=True)
class _Processes:
    """W processes that share a batch, of which this is number ``rank``."""

    count: int
    rank: int

    @classmethod
    def all(cls) -> _Processes:
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls(1, 0)
        return cls(distributed.get_world_size(), distributed.get_rank())

    def gathered(self, rows: Tensor) -> Tensor:
        """(B, D) of this process -> (W B, D) of all, by rank; gradients find their way back to every process."""
        return rows if self.count == 1 else torch.cat(differentiable.all_gather(rows.contiguous()))

    def gathered_numbers(self, numbers: Tensor) -> Tensor:
        """(B,) -> (W B,), without gradients."""
        if self.count == 1:
            return numbers
        parts = [torch.empty_like(numbers) for _ in range(self.count)]
        distributed.all_gather(parts, numbers.contiguous())
        return torch.cat(parts)
