"""Training on a random part of each clip, as the released UnAV detector crops its features.

Shape letters: B clips, T steps, E events.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TRIES = 16  # parts drawn of each clip; released: up to 200, one after another


class Cropped(NamedTuple):
    """Streams (B, T, D), validity (B, T), spans (B, E, 2) in steps, labels (B, E)."""

    visual: Tensor
    audio: Tensor
    mask: Tensor
    spans: Tensor
    labels: Tensor


def crop(whole: Cropped, shortest: float) -> Cropped:
    """Cut a random part out of every clip.

    The length is drawn from round(shortest n) ... n steps and then the start, both uniformly. Spans are cut off at the part's ends; an
    event with less than half its length inside is dropped. Of several parts drawn, the first that keeps an event is taken; a clip of
    whose parts none does is left whole. Nothing is read back from the device.

    Args:
        whole: padding at the end only.
        shortest: share of the clip, above 0.
    """
    mask, spans, labels = whole.mask, whole.spans, whole.labels
    clips, steps = mask.shape
    valid = mask.sum(dim=1, keepdim=True)  # (B, 1)
    low = (shortest * valid).round().long().clamp(min=1).minimum(valid)
    drawn = torch.rand(2, clips, TRIES, device=mask.device)
    length = low + (drawn[0] * (valid - low + 1)).long().minimum(valid - low)  # (B, TRIES)
    start = (drawn[1] * (valid - length + 1)).long().minimum(valid - length)
    inside = _clipped(spans.unsqueeze(1), start[..., None, None], length[..., None, None])  # (B, TRIES, E, 2)
    kept = _kept(spans.unsqueeze(1), inside) & (labels >= 0).unsqueeze(1)
    good = kept.any(dim=-1)  # (B, TRIES)
    first = good.to(torch.uint8).argmax(dim=1, keepdim=True)
    some = good.any(dim=1, keepdim=True)
    length = torch.where(some, length.gather(1, first), valid)
    start = torch.where(some, start.gather(1, first), 0)
    place = torch.arange(steps, device=mask.device)
    taken = (place + start).clamp(max=steps - 1)  # (B, T)
    now = place < length
    visual, audio = (
        stream.gather(1, taken.unsqueeze(-1).expand_as(stream)).masked_fill(~now.unsqueeze(-1), 0.0)
        for stream in (whole.visual, whole.audio)
    )
    parts = _clipped(spans, start.unsqueeze(-1), length.unsqueeze(-1))
    whole_clip = length == valid  # events of a clip that is left whole stay as they are
    fits = (_kept(spans, parts) | whole_clip) & (labels >= 0)
    parts = torch.where(whole_clip.unsqueeze(-1), spans, parts)
    return Cropped(visual, audio, now, parts, torch.where(fits, labels, -1))


def _clipped(spans: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Spans relative to ``start``, cut off at 0 and at ``length``."""
    return torch.minimum((spans - start).clamp(min=0), length.to(spans.dtype))


def _kept(spans: Tensor, inside: Tensor) -> Tensor:
    """Whether at least half of each span is inside."""
    lengths, parts = (each[..., 1] - each[..., 0] for each in (spans, inside))
    return (parts > 0) & (2 * parts >= lengths)
