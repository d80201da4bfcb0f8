"""Relations within and across modalities: Xu et al. (CMRAN), ACM MM 2020, as released; inherited by CMBS and CACE-Net.

No positional encoding anywhere. The released modules also register layers that are never called (a decoder's self-attention, the
templates that the encoder's layers are copied from); here they do not exist.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


def check_heads(width: int, **heads: int) -> None:
    """Check that every number of attention heads, given under the name of its setting, divides ``width``.

    Raises:
        ValueError: a number does not divide it.
    """
    for name, number in heads.items():
        if width % number:
            raise ValueError(f"width ({width}) must be a multiple of {name} ({number})")


class IntraModalRelation(nn.Module):
    """ITR: a linear projection, then post-norm Transformer encoder layers over the segments of one modality.

    The layers start from identical weights (copies of one), as released.

    Args:
        input_width: D of a segment.
        width: D of the layers and the output.
        feedforward: width of the feed-forward block.
    """

    def __init__(self, input_width: int, width: int, heads: int, feedforward: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.Linear(input_width, width)
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, input_width), (B, T) bool -> (B, T, width)."""
        return self.encoder(self.project(features), src_key_padding_mask=~mask)


class CrossModalRelation(nn.Module):
    """CMRA: segments of one modality attend to the other modality and to themselves at once.

    q = W x; q <- LN(q + MHA(q, [memory; q], [memory; q])); q <- LN(q + FFN(q)). Memory and query are concatenated in time (2T keys);
    there is no self-attention besides.

    Args:
        input_width: D of a segment of the querying modality.
        width: D of the memory and the output.
        feedforward: width of the feed-forward block.
    """

    def __init__(self, input_width: int, width: int, heads: int, feedforward: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.Linear(input_width, width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width))
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, memory: Tensor, mask: Tensor, memory_mask: Tensor | None = None) -> Tensor:
        """(B, T, input_width), (B, T, width), (B, T) bool -> (B, T, width); ``memory_mask``: the memory's, where it is another."""
        query = self.project(features)
        padded = torch.cat([~mask if memory_mask is None else ~memory_mask, ~mask], dim=1)
        attended = self.attend(query, memory, padded)
        query = self.attention_norm(query + self.dropout(attended))
        return self.feedforward_norm(query + self.dropout(self.feedforward(query)))

    def attend(self, query: Tensor, memory: Tensor, padded: Tensor) -> Tensor:
        """MHA(q, [memory; q], [memory; q]): (B, T, D) twice, padded keys (B, 2T) bool -> (B, T, D)."""
        keys = torch.cat([memory, query], dim=1)
        return self.attention(query, keys, keys, key_padding_mask=padded, need_weights=False)[0]


class Related(NamedTuple):
    """Both modalities (B, T, width) after the relation across them, and their memories after the relation within each."""

    visual: Tensor
    audio: Tensor
    visual_memory: Tensor
    audio_memory: Tensor


class BimodalRelation(nn.Module):
    """ITR within each modality, then CMRA of each with the other's result as its memory.

    Args:
        visual_width, audio_width: D of a segment of each.
        width: D of the output.
        intra_feedforward, cross_feedforward: widths of the feed-forward blocks of ITR and CMRA.
        dropout, cross_dropout: of ITR, and of CMRA where it is another.
        cross: class of CMRA.
    """

    def __init__(
        self, visual_width: int, audio_width: int, width: int, heads: int, intra_feedforward: int, cross_feedforward: int, dropout: float,
        cross_dropout: float | None = None, cross: type[CrossModalRelation] = CrossModalRelation,
    ) -> None:  # fmt: skip
        super().__init__()
        self.visual_intra = IntraModalRelation(visual_width, width, heads, intra_feedforward, dropout=dropout)
        self.audio_intra = IntraModalRelation(audio_width, width, heads, intra_feedforward, dropout=dropout)
        cross_dropout = dropout if cross_dropout is None else cross_dropout
        self.visual_cross = cross(visual_width, width, heads, cross_feedforward, cross_dropout)
        self.audio_cross = cross(audio_width, width, heads, cross_feedforward, cross_dropout)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor, audio_mask: Tensor | None = None) -> Related:
        """(B, T, visual_width), (B, T, audio_width), (B, T) bool; ``audio_mask``: the audio's, where it is another."""
        audio_mask = mask if audio_mask is None else audio_mask
        visual_memory, audio_memory = self.visual_intra(visual, mask), self.audio_intra(audio, audio_mask)
        visual = self.visual_cross(visual, audio_memory, mask, audio_mask)
        audio = self.audio_cross(audio, visual_memory, audio_mask, mask)
        return Related(visual, audio, visual_memory, audio_memory)


class Interaction(nn.Module):
    """INTER: g = x * y; LN(g + MHA(g, [y; x], [y; x])).

    Args:
        width: D of x and y.
        attention_dropout: on the attention weights.
        dropout: on the branch.
    """

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=attention_dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T, D), (B, T) bool -> (B, T, D)."""
        joint = first * second
        keys = torch.cat([second, first], dim=1)
        padded = torch.cat([~mask, ~mask], dim=1)
        attended = self.attention(joint, keys, keys, key_padding_mask=padded, need_weights=False)[0]
        return self.norm(joint + self.dropout(attended))


class MutualInteraction(nn.Module):
    """F = (F_1 + F_2) / 2, F_1 = INTER(visual, audio), F_2 = INTER(audio, F_1), as in CMBS and CACE-Net."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.visual = Interaction(width, heads, attention_dropout, dropout)
        self.audio = Interaction(width, heads, attention_dropout, dropout)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T, D), (B, T) bool -> (B, T, D)."""
        first = self.visual(visual, audio, mask)
        return (first + self.audio(audio, first, mask)) / 2
