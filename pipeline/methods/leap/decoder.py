"""LEAP's decoder: a token per class attends to the segments of a modality.

The scores of its last attention say in which segments the class is.

B batch, T segments, C classes, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pipeline.layers.multimodal_pyramid import QueryNormBlock


class LabelTokenDecoder(nn.Module):
    """Blocks whose queries are label tokens and whose keys and values are one modality's segments.

    Args:
        width: D.
        layers: number of blocks.
        heads, feedforward, dropout, attention_dropout: of every block.
    """

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(QueryNormBlock(width, heads, feedforward, dropout, attention_dropout) for _ in range(layers))

    def forward(self, tokens: Tensor, stream: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens after the last block, and its scores.

        Args:
            tokens: (C, D).
            stream: (B, T, D).
            mask: (B, T), bool, at least one True per clip.

        Returns:
            (B, C, D), (B, C, T).
        """
        tokens = tokens.expand(len(stream), -1, -1)
        blocked = (~mask)[:, None].expand(-1, tokens.shape[1], -1).repeat_interleave(self.heads, dim=0)
        for block in self.blocks[:-1]:
            tokens = block(tokens, stream, blocked)
        last = self.blocks[-1]
        assert isinstance(last, QueryNormBlock)
        hidden = last.attend(tokens, stream, blocked)
        return last.feed(hidden), scores(last.attention, hidden, stream)


def scores(attention: nn.MultiheadAttention, hidden: Tensor, stream: Tensor) -> Tensor:
    """Logits of the attention with ``hidden`` as its query, meaned over the heads.

    (B, C, D), (B, T, D) -> (B, C, T).
    """
    query_weight, key_weight, _ = attention.in_proj_weight.chunk(3)
    query_bias, key_bias, _ = attention.in_proj_bias.chunk(3)
    queries, keys = linear(hidden, query_weight, query_bias), linear(stream, key_weight, key_bias)
    of_a_head = attention.embed_dim // attention.num_heads
    return torch.matmul(queries, keys.transpose(1, 2)) / (attention.num_heads * math.sqrt(of_a_head))
