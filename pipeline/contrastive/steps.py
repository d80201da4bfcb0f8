"""One step's loss and gradients: plain, or with cached gradients so that a large batch fits into little memory.

Shape letters: B clips, F frames of all B clips, D width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.contrastive.batches import ClipBatch
from pipeline.contrastive.loss import info_nce


def plain_step(fabric: Fabric, model: Any, batch: ClipBatch, symmetric: bool) -> Tensor:
    """Compute the loss over all processes (a detached scalar) and, if it is finite, the gradients in ``grad``."""
    visual, audio, temperature = model(*batch.inputs)
    loss = info_nce(visual, audio, temperature, groups=batch.groups, symmetric=symmetric)
    overall = _over_processes(fabric, loss)
    if torch.isfinite(overall):
        fabric.backward(loss)
    return overall


def cached_step(fabric: Fabric, model: Any, batch: ClipBatch, symmetric: bool, clips: int) -> Tensor:
    """Do :func:`plain_step` with only ``clips`` clips' frames and sound in memory at a time (Gao et al., RepL4NLP 2021, "GradCache").

    First embed all parts without a graph and take the gradient of the loss with respect to the embeddings; then embed each part again,
    with a graph, and send that gradient back through it. Dropout draws the same in both passes. Identical to the plain step for networks
    that treat each frame by itself, so not with batch norms in train mode.
    """
    starts = range(0, len(batch), clips)
    parts = [batch.part(start, start + clips) for start in starts]
    states, embedded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state(batch.frames.device))
            embedded.append(model(*part.inputs))
    after = _random_state(batch.frames.device)
    visual, audio = (torch.cat([outputs[which] for outputs in embedded]).requires_grad_() for which in (0, 1))
    temperature = embedded[0][2].detach().requires_grad_()
    loss = info_nce(visual, audio, temperature, groups=batch.groups, symmetric=symmetric)
    overall = _over_processes(fabric, loss)
    if not torch.isfinite(overall):
        return overall
    in_visual, in_audio, in_temperature = torch.autograd.grad(loss, (visual, audio, temperature))
    for start, part, state in zip(starts, parts, states, strict=True):
        last = part is parts[-1]
        _set_random_state(state, batch.frames.device)
        waiting: AbstractContextManager = fabric.no_backward_sync(model, enabled=not last)
        with waiting:
            outputs = model(*part.inputs)
            carried = (outputs[0] * in_visual[start : start + clips]).sum() + (outputs[1] * in_audio[start : start + clips]).sum()
            fabric.backward(carried + (outputs[2] * in_temperature if last else 0))
    _set_random_state(after, batch.frames.device)
    return overall


def _over_processes(fabric: Fabric, loss: Tensor) -> Tensor:
    """All-reduced mean; non-finite on one rank means non-finite on all, so no rank hangs in backward."""
    overall: Any = fabric.all_reduce(loss.detach(), reduce_op="mean")
    return overall


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
