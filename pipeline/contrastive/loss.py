"""InfoNCE between visual and audio embeddings of clips (He et al., "CACE-Net", ACM MM 2024, Sec. 3.4, Eq. 9).

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
    """InfoNCE, Eq. 9, in log space and at least float32.

    The mean over i of -log( exp(v_i.a_i / tau) / sum_j exp(v_i.a_j / tau) ).

    With several processes the sum runs over all their clips. The mean of the W results is the loss of the whole batch, and the mean of
    their gradients, as DistributedDataParallel takes it, is its gradient. A batch of one clip has loss 0 and gradients 0.

    Args:
        visual, audio: (B, D) each, row i of both from the same clip; B is the same in every process. Eq. 9 takes plain dot products.
        temperature: tau > 0, a number or a scalar tensor that may require a gradient.
        groups: (B,) int64; rows of one group are of the same clip and are not each other's negatives. None: all differ.
        gather: take negatives from all processes; False if every process has the whole batch already.
        symmetric: average with the audio-to-visual direction, as in the released code.

    Returns:
        Scalar.
    """
    parts = _Processes.all() if gather else _Processes(1, 0)
    columns = torch.arange(len(visual), device=visual.device) + parts.rank * len(visual)  # the column of each row's own partner
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
    """InfoNCE of queries against keys, a scalar.

    Args:
        queries: (B, D). keys: (W B, D).
        excluded: (B, W B) bool, pairs to leave out.
        columns: (B,) column of each query's own key.
    """
    logits = queries @ keys.T / temperature
    logits = logits.masked_fill(excluded, torch.finfo(logits.dtype).min)
    return torch.nn.functional.cross_entropy(logits, columns)


@dataclass(frozen=True)
class _Processes:
    """The W processes that share a batch; this one is number ``rank``."""

    count: int
    rank: int

    @classmethod
    def all(cls) -> _Processes:
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls(1, 0)
        return cls(distributed.get_world_size(), distributed.get_rank())

    def gathered(self, rows: Tensor) -> Tensor:
        """Gather (B, D) from every process into (W B, D), by rank; gradients flow back to every process."""
        return rows if self.count == 1 else torch.cat(differentiable.all_gather(rows.contiguous()))

    def gathered_numbers(self, numbers: Tensor) -> Tensor:
        """Gather (B,) into (W B,), without gradients."""
        if self.count == 1:
            return numbers
        parts = [torch.empty_like(numbers) for _ in range(self.count)]
        distributed.all_gather(parts, numbers.contiguous())
        return torch.cat(parts)
