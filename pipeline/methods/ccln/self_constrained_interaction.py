"""CCLN's Self-constrained Bi-modal Interaction (SBI), as we read it: bi-modal attention gated by the fused signal.

SBI is "a bi-modal attention structure integrated with audio-visual fusion information" with "gated processing of the audio-visual
correlation matrix" (Sun et al., IEEE TMM 2025, abstract; no equation is public).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _FeedForward(nn.Module):
    """LN(x + FFN(x)), a ReLU between two linear maps."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(features + self.layers(features))


class SelfConstrainedInteraction(nn.Module):
    """Bi-modal attention: one correlation matrix for both directions, with entries gated by the fused signal.

    1. fusion: f_t = ReLU(W_f [v_t; a_t])
    2. correlation: M = (W_v v) (W_a a)^T / sqrt(D), T x T
    3. gate: G = sigmoid((W_1 f) (W_2 f)^T / sqrt(D)), T x T
    4. v' = LN(v + (G * softmax(M)) U_a a), a' = LN(a + (G^T * softmax(M^T)) U_v v), each then through LN(x + FFN(x))

    The rows of softmax(M) sum to 1, those of the gated matrix to less: a segment without support in the other modality, according to the
    fused signal, takes nothing from it.

    Args:
        width: D of both modalities.
        feedforward: width of the feed-forward block.
        dropout: in the attention and the feed-forward block.
        gated: False leaves G and f out (G = 1): plain bi-modal attention.
    """

    def __init__(self, width: int, feedforward: int, dropout: float, gated: bool = True) -> None:
        super().__init__()
        self.visual_query, self.audio_query = nn.Linear(width, width), nn.Linear(width, width)
        self.visual_value, self.audio_value = nn.Linear(width, width), nn.Linear(width, width)
        self.visual_norm, self.audio_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.visual_feedforward, self.audio_feedforward = (_FeedForward(width, feedforward, dropout) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.fusion: nn.Module | None = None
        if gated:
            self.fusion = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU())
            self.visual_gate, self.audio_gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange information between the modalities.

        Args:
            visual, audio: (B, T, D) each.
            mask: (B, T), bool, with at least one True per clip.

        Returns:
            visual, audio: (B, T, D) each.
        """
        correlation = self.visual_query(visual) @ self.audio_query(audio).transpose(1, 2) / visual.shape[-1] ** 0.5
        to_visual, to_audio = _shares(correlation, mask), _shares(correlation.transpose(1, 2), mask)
        if self.fusion is not None:
            gate = self._gate(visual, audio)
            to_visual, to_audio = to_visual * gate, to_audio * gate.transpose(1, 2)
        visual_sum = self.visual_norm(visual + self.dropout(to_visual @ self.audio_value(audio)))
        audio_sum = self.audio_norm(audio + self.dropout(to_audio @ self.visual_value(visual)))
        return self.visual_feedforward(visual_sum), self.audio_feedforward(audio_sum)

    def _gate(self, visual: Tensor, audio: Tensor) -> Tensor:
        """The gate G (B, T visual, T audio), in (0, 1)."""
        assert self.fusion is not None
        fused = self.fusion(torch.cat([visual, audio], dim=-1))
        return torch.sigmoid(self.visual_gate(fused) @ self.audio_gate(fused).transpose(1, 2) / visual.shape[-1] ** 0.5)


def _shares(correlation: Tensor, mask: Tensor) -> Tensor:
    """Softmax of each matrix row over the valid columns: (B, T, T), (B, T) bool -> (B, T, T)."""
    return correlation.masked_fill(~mask.unsqueeze(1), float("-inf")).softmax(dim=-1)
