"""InfoNCE between the visual and the audio embeddings of clips: He et al., "CACE-Net", ACM MM 2024, Sec. 3.4, Eq. 9.

Shape letters: B clips of this process, W processes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as differentiable

from pipeline.layers.precision import at_least_float32


def info_nce(
    visual: Tensor, audio: Tensor, temperature: Tensor | float, *, groups: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """Mean over i of -log( exp(v_i.a_i / tau) / sum_j exp(v_i.a_j / tau) ), Eq. 9, in log space and float32 at least.

    With several processes the sum runs over the clips of all of them, and the mean of the W results is the loss of the whole batch: so
    are, averaged as DistributedDataParallel does, its gradients. A batch of one clip gives 0, and gradients of 0.

    Args:
        visual, audio: (B, D) each, row i of the same clip; B is the same in every process. Eq. 9 takes dot products as they are.
        temperature: tau > 0, a number or a scalar tensor that may want a gradient.
        groups: (B,) int64; rows of one group show the same clip and are not each other's negatives. None: all differ.
        symmetric: the mean of this direction and the audio-to-visual one, as the released code has it.

    Returns:
        Scalar.
    """
    groups = torch.arange(len(visual), device=visual.device) + _rank() * len(visual) if groups is None else groups
    with torch.autocast(visual.device.type, enabled=False):
        visual, audio = at_least_float32(visual), at_least_float32(audio)
        excluded = _others_of_the_group(groups)
        loss = _one_direction(visual, _gathered(audio), temperature, excluded)
        if symmetric:
            loss = (loss + _one_direction(audio, _gathered(visual), temperature, excluded)) / 2
    return loss


def _one_direction(queries: Tensor, keys: Tensor, temperature: Tensor | float, excluded: Tensor) -> Tensor:
    """(B, D) queries, (W B, D) keys, (B, W B) pairs to leave out -> scalar."""
    logits = queries @ keys.T / temperature
    logits = logits.masked_fill(excluded, torch.finfo(logits.dtype).min)
    return torch.nn.functional.cross_entropy(logits, _own_columns(len(queries), logits.device))


def _others_of_the_group(groups: Tensor) -> Tensor:
    """(B,) -> (B, W B) bool: the same clip, and not the row's own partner."""
    everyone = groups
    if _processes() > 1:
        parts = [torch.empty_like(groups) for _ in range(_processes())]
        distributed.all_gather(parts, groups.contiguous())
        everyone = torch.cat(parts)
    same = groups[:, None] == everyone[None, :]
    rows = torch.arange(len(groups), device=groups.device)
    same[rows, _own_columns(len(groups), groups.device)] = False
    return same


def _own_columns(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device) + _rank() * count


def _gathered(rows: Tensor) -> Tensor:
    """(B, D) of this process -> (W B, D) of all, by rank; gradients find their way back to every process."""
    if _processes() == 1:
        return rows
    return torch.cat(differentiable.all_gather(rows.contiguous()))


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _rank() -> int:
    return distributed.get_rank() if _processes() > 1 else 0
