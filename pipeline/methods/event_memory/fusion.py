"""Fusion of a clip's segments, or of a memory's slots: attention to positions, within each modality, and across them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.layers.sinusoids import sinusoids


class QueryBlock(nn.Module):
    """LN(q + MHA(q, m, m)), then LN(. + FFN); no self-attention."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width))
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, L, D), (N, M, D), (N, M) bool or None -> (N, L, D)."""
        padded = None if mask is None else ~mask
        attended = self.attention(query, memory, memory, key_padding_mask=padded, need_weights=False)[0]
        query = self.attention_norm(query + self.dropout(attended))
        return self.feedforward_norm(query + self.dropout(self.feedforward(query)))


class FusedSegments(NamedTuple):
    """F, and a' and v' before the fusion; (B, T, D) each."""

    fused: Tensor
    audio: Tensor
    visual: Tensor


class Fusion(nn.Module):
    """Fuse audio and maps.

    x and z are Lin LReLU Lin of the audio and of each position; z plus sinusoids of the position passes an encoder layer over positions.

    * f1: x_t asks the positions of its own segment.
    * a' and v': an encoder layer over time on x, and on the mean of z over positions.
    * f2: a' asks v' over time.
    * F = LN(Conv3(LReLU(Conv3([f1; f2])))) along time.
    """

    def __init__(self, visual_width: int, audio_width: int, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()

        def embed(size: int) -> nn.Module:
            return nn.Sequential(nn.Linear(size, width), nn.LeakyReLU(), nn.Linear(width, width))

        def encoder() -> nn.TransformerEncoderLayer:
            return nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)

        self.embed_audio, self.embed_visual = embed(audio_width), embed(visual_width)
        self.over_positions, self.over_audio, self.over_visual = encoder(), encoder(), encoder()
        self.of_positions = QueryBlock(width, heads, feedforward, dropout)
        self.of_visual = QueryBlock(width, heads, feedforward, dropout)
        self.first, self.second = nn.Conv1d(2 * width, width, 3, padding=1), nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> FusedSegments:
        """(B, T, S, D_v), (B, T, D_a), (B, T) bool."""
        clips, segments, places, _ = visual.shape
        x, z = self.embed_audio(audio), self.embed_visual(visual).flatten(0, 1)
        z = self.over_positions(z + sinusoids(places, z.shape[-1], z.device).to(z.dtype))  # (B*T, S, D)
        by_position = self.of_positions(x.flatten(0, 1).unsqueeze(1), z).squeeze(1).unflatten(0, (clips, segments))
        own_audio = self.over_audio(x, src_key_padding_mask=~mask)
        own_visual = self.over_visual(z.mean(dim=1).unflatten(0, (clips, segments)), src_key_padding_mask=~mask)
        by_visual = self.of_visual(own_audio, own_visual, mask)
        valid = mask.unsqueeze(1)  # zeros behind a clip's end are the convolutions' own padding
        steps = torch.cat([by_position, by_visual], dim=-1).transpose(1, 2).masked_fill(~valid, 0.0)
        steps = nn.functional.leaky_relu(self.first(steps)).masked_fill(~valid, 0.0)
        return FusedSegments(self.norm(self.second(steps).transpose(1, 2)), own_audio, own_visual)
