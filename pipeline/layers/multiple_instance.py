"""Multiple-instance learning: a clip's logits from its segments' scores, and losses on clips alone.

B batch, T segments, K labels of a clip (C classes and background).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.layers.pooling import max_over_time

VideoLoss = Literal["cross_entropy", "soft_margin", "binary"]


def gated_clip_logits(gate: Tensor, clip_logits: Tensor, mask: Tensor) -> Tensor:
    """max_t(g_t r): the clip's logits r, scaled per label by the segment gate with the largest product (CMRAN, CMBS, weak).

    Args:
        gate: (B, T), in [0, 1].
        clip_logits: (B, K).
        mask: (B, T), bool, at least one True per clip.

    Returns:
        (B, K).
    """
    return max_over_time(gate.unsqueeze(-1) * clip_logits.unsqueeze(1), mask)


def video_loss(logits: Tensor, labels: Tensor, form: VideoLoss) -> Tensor:
    """Loss of each clip on P = softmax(logits).

    Args:
        logits: (B, K).
        labels: (B, K), >= 0, a multi-hot row or a distribution.
        form: ``cross_entropy``: -sum_c y_c log P_c, y the labels scaled to sum to 1;
            ``soft_margin``: the mean over K of binary cross-entropy *with logits* applied to P, as AVEL, CMRAN and CMBS released it: with
            this double squashing it only ranges from about 0.71 (uniform P) to 0.68 (perfect P) for K = 29;
            ``binary``: the mean over K of binary cross-entropy of P, as PSP released it.

    Returns:
        (B,).
    """
    if form == "soft_margin":
        return binary_cross_entropy_with_logits(logits.softmax(dim=-1), labels, reduction="none").mean(dim=-1)
    present = logits.log_softmax(dim=-1)
    if form == "cross_entropy":
        return -(labels / labels.sum(dim=-1, keepdim=True) * present).sum(dim=-1)
    # log(1 - P_c) as the log of the other labels' mass, exact where P_c is close to 1.
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    absent = present.unsqueeze(-2).masked_fill(own, float("-inf")).logsumexp(dim=-1)
    return -(labels * present + (1 - labels) * absent).mean(dim=-1)
