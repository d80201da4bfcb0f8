"""Blocks of MGN: transformer blocks over segments and class tokens, and the grouping of segments by tokens.

Mo, Tian, "Multi-modal Grouping Network for Weakly-Supervised Audio-Visual Video Parsing" (MGN), NeurIPS 2022, as released.
Shape letters: B clips, N inputs, G groups, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32
from pipeline.layers.pyramid import DropPath, masked

EXPANSION = 4  # hidden width of an MLP, in widths


def mlp(width: int) -> nn.Sequential:
    """LN, linear layer, GELU, linear layer: a residual branch."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))


class TokenBlock(nn.Module):
    """Pre-norm transformer block: x + Drop(MHA(LN x)), x + Drop(MLP(LN x)), where Drop leaves the branch of a clip out."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = mlp(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D), (B, N) bool -> (B, N, D)."""
        query = self.norm(tokens)
        tokens = tokens + self.drop_path(self.attention(query, query, query, key_padding_mask=~mask, need_weights=False)[0])
        return tokens + self.drop_path(self.mlp(tokens))


class Grouped(NamedTuple):
    """Groups of inputs.

    groups: (B, G, D).
    assignment: how much of an input goes to each group, (B, G, N); sums over G to 1, and is zero for padded inputs.
    """

    groups: Tensor
    assignment: Tensor


class Grouping(nn.Module):
    """Collect inputs X in groups, each of which starts from a token G.

    G' = LN(mix(LN G)), where mix is an MLP over the tokens, channel by channel; X' = LN X
    q = LN(r + MLP(LN r)), r = G' + MHA(G', X')
    A = softmax over the groups of (L q) (L' X')^T / sqrt(D); y = q + L(A / (1 + sum_n A) L X'); y + MLP(LN y)

    Args:
        width, heads: of the attention.
        groups: G; the MLP over the tokens ties it.
        mixer_width: hidden width of that MLP.
        hard: whether an input goes to one group alone, the best. The gradient is that of the soft assignment; in training Gumbel noise is
            added before the choice.
    """

    def __init__(self, width: int, heads: int, groups: int, mixer_width: int, hard: bool = False) -> None:
        super().__init__()
        self.hard = hard
        self.token_norm, self.input_norm, self.mixed_norm, self.group_norm = (nn.LayerNorm(width) for _ in range(4))
        self.mix_in, self.mix_out = nn.Linear(groups, mixer_width), nn.Linear(mixer_width, groups)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attended_mlp = mlp(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))  # inputs ask, groups answer
        self.mlp = mlp(width)

    def forward(self, inputs: Tensor, tokens: Tensor, mask: Tensor, group_mask: Tensor | None = None) -> Grouped:
        """Group.

        Args:
            inputs: X, (B, N, D).
            tokens: G, (B, G, D).
            mask: of the inputs, (B, N), bool, with a True in every clip.
            group_mask: of the groups, (B, G), bool, likewise; None: all are valid. The others get no input and mean nothing.
        """
        tokens = self.token_norm(tokens)
        if group_mask is not None:
            tokens = masked(tokens, group_mask)
        mixed = self.mix_out(nn.functional.gelu(self.mix_in(tokens.transpose(1, 2)))).transpose(1, 2)
        mixed, inputs = self.mixed_norm(mixed), self.input_norm(inputs)
        attended = mixed + self.attention(mixed, inputs, inputs, key_padding_mask=~mask, need_weights=False)[0]
        groups = self.group_norm(attended + self.attended_mlp(attended))
        scores = at_least_float32(self.key(groups) @ self.query(inputs).transpose(1, 2)) / math.sqrt(groups.shape[2])
        if group_mask is not None:
            scores = scores.masked_fill(~group_mask.unsqueeze(2), float("-inf"))
        assignment = scores.softmax(dim=1).masked_fill(~mask.unsqueeze(1), 0.0)
        taken = self._hard(scores).masked_fill(~mask.unsqueeze(1), 0.0) if self.hard else assignment
        shares = (taken / (taken.sum(dim=2, keepdim=True) + 1)).to(groups.dtype)
        groups = groups + self.output(shares @ self.value(inputs))
        return Grouped(groups + self.mlp(groups), assignment)

    def _hard(self, scores: Tensor) -> Tensor:
        """One group for each input: (B, G, N) -> the same, one-hot over G, with the gradient of the softmax."""
        if self.training:
            scores = scores - torch.empty_like(scores).exponential_().log()
        soft = scores.softmax(dim=1)
        places = torch.arange(scores.shape[1], device=scores.device)[:, None]
        return (scores.argmax(dim=1, keepdim=True) == places).to(soft.dtype) - soft.detach() + soft
