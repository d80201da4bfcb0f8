"""DMIN's dense attention across the modalities, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import dropout

from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import CrossModalRelation


def dense_logits(query: Tensor, key: Tensor) -> Tensor:
    """Mean dot product of a key with all cyclic shifts of a query.

    The query as it is weighs as much as all its other shifts together:

    (1/d) [q.k / 2 + (sum_c q_c sum_c k_c - q.k) / (2 (d - 1))]: the shifts of q sum to its channel sum at every channel, so the released
    loop over d shifts needs no loop.

    Args:
        query: (..., T, d), d > 1.
        key: (..., K, d).

    Returns:
        (..., T, K).
    """
    width = query.shape[-1]
    own = query @ key.transpose(-1, -2)
    every = query.sum(dim=-1, keepdim=True) * key.sum(dim=-1).unsqueeze(-2)
    return (own / 2 + (every - own) / (2 * (width - 1))) / width


class DenseRelation(CrossModalRelation):
    """CMRA whose logits of the other modality's keys are :func:`dense_logits`; those of its own keys stay dot products.

    One softmax runs over both. The weights are those of ``attention``, as in CMRA.
    """

    def attend(self, query: Tensor, memory: Tensor, padded: Tensor) -> Tensor:
        own = self.attention
        features = [query, torch.cat([memory, query], dim=1), torch.cat([memory, query], dim=1)]
        weights, biases = own.in_proj_weight.chunk(3), own.in_proj_bias.chunk(3)
        q, k, v = (
            torch.nn.functional.linear(x, weight, bias).unflatten(-1, (own.num_heads, own.head_dim)).transpose(1, 2)
            for x, weight, bias in zip(features, weights, biases, strict=True)
        )  # (B, heads, T or 2T, d)
        segments = query.shape[1]
        q = q / own.head_dim**0.5
        logits = torch.cat([dense_logits(q, k[:, :, :segments]), q @ k[:, :, segments:].transpose(-1, -2)], dim=-1)
        shares = at_least_float32(logits).masked_fill(padded[:, None, None], float("-inf")).softmax(dim=-1)
        attended = dropout(shares, own.dropout, self.training).to(v.dtype) @ v
        return own.out_proj(attended.transpose(1, 2).flatten(2))
