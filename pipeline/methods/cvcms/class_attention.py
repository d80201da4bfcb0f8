"""Class tokens of a segment, which attend to each other and to those of the other modality.

Lin, Tseng, Lee, Lin, Yang, "Exploring Cross-Video and Cross-Modality Signals for Weakly-Supervised Audio-Visual Video Parsing" (CVCMS),
NeurIPS 2021, as released. Shape letters: B clips, T segments, C classes, D width of the streams, d width of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.layers.hybrid_attention import HybridAttention
from pipeline.layers.precision import at_least_float32


class ClassTokens(nn.Module):
    """A segment's features -> one token per class, ReLU(L x)."""

    def __init__(self, width: int, num_classes: int, token_width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.tokens = nn.Linear(width, num_classes * token_width)

    def forward(self, stream: Tensor) -> Tensor:
        """(B, T, D) -> (B T, C, d)."""
        return self.tokens(stream).relu().reshape(stream.shape[0] * stream.shape[1], self.num_classes, -1)


class ClassAttention(nn.Module):
    """Probabilities of a segment's classes from tokens that see the segment's other classes, in both modalities.

    Args:
        width: D.
        token_width: d.
        feedforward: hidden width of the layer's FFN.
        dropout: in the layer, one for both modalities.
    """

    def __init__(self, width: int, num_classes: int, token_width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.audio_tokens, self.visual_tokens = (ClassTokens(width, num_classes, token_width) for _ in range(2))
        self.attention = HybridAttention(token_width, feedforward=feedforward, dropout=dropout)
        self.audio_score, self.visual_score = (nn.Linear(token_width, 1) for _ in range(2))

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(B, T, D), (B, T, D) -> (B, T, 2, C), in float32 at least."""
        sound, picture = self.audio_tokens(audio), self.visual_tokens(visual)
        every = torch.ones(sound.shape[:2], dtype=torch.bool, device=sound.device)
        sound, picture = self.attention(sound, picture, every)
        scores = torch.stack([self.audio_score(sound), self.visual_score(picture)], dim=1).squeeze(-1)  # (B T, 2, C)
        return at_least_float32(scores).sigmoid().unflatten(0, audio.shape[:2])
