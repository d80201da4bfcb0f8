"""LEAP's loss on the similarity of the two streams: segments are alike as far as their labels agree.

B batch, T segments, C classes, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

OFFSET = 0.01  # as released, so that no target is 0


def shared_events(audio_labels: Tensor, visual_labels: Tensor, form: Literal["released", "paper"]) -> Tensor:
    """Targets y of audio segment t and visual segment s, by the events they share.

    Labels in 0..1, zero in padding, (B, T, C) each -> (B, T, T).

    ``released``: r / (1 + r) + .01 with r = sum_c l^a_tc l^v_sc / M, M the most events in a segment of the clip in either modality; so y is
    in .01 to .51. ``paper``: the events of both over the events of either, 0 without any.
    """
    both = audio_labels @ visual_labels.transpose(1, 2)
    if form == "paper":
        either = audio_labels.sum(dim=-1)[:, :, None] + visual_labels.sum(dim=-1)[:, None] - both
        return torch.where(either > 0, both / either.clamp(min=1e-8), torch.zeros_like(both))
    most = torch.maximum(audio_labels.sum(dim=-1), visual_labels.sum(dim=-1)).amax(dim=1)[:, None, None]
    share = both / most.clamp(min=1e-8)
    return share / (1 + share) + OFFSET


def similarity_loss(audio: Tensor, visual: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean of (ReLU cos(a_t, v_s) - y_ts)^2 over the pairs of valid segments of each clip, 0 without any.

    Args:
        audio, visual: (B, T, D).
        targets: y, (B, T, T).
        mask: (B, T), bool.
    """
    with torch.autocast(audio.device.type, enabled=False):
        a, v = (normalize(at_least_float32(stream), dim=-1) for stream in (audio, visual))
        alike = torch.relu(a @ v.transpose(1, 2))
    return masked_mean((alike - targets) ** 2, mask[:, :, None] & mask[:, None])
