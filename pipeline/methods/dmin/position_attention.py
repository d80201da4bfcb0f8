"""DMIN's spatial attention: a bilinear match of position and sound, and how the position develops over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.recurrent import SegmentLSTM


class BilinearMatch(nn.Module):
    """Factorized bilinear pooling (MFB) of a position and the sound, m = L2norm(sqrt(sums of Drop[ReLU(W_x x) * ReLU(W_a a)])).

    The product has ``factors`` neighbouring channels for each output channel, which are summed. The released signed root has a second
    term, sqrt(ReLU(-s)), always 0 because both factors are at least 0.
    """

    def __init__(self, width: int, audio_width: int, output: int, factors: int, dropout: float) -> None:
        super().__init__()
        self.position = nn.Linear(width, output * factors)
        self.audio = nn.Linear(audio_width, output * factors)
        self.dropout = MapDropout(dropout)
        self.factors = factors

    def forward(self, positions: Tensor, audio: Tensor) -> Tensor:
        """(B, T, S, width), (B, T, audio_width) -> (B, T, S, output)."""
        product = torch.relu(self.position(positions)) * torch.relu(self.audio(audio)).unsqueeze(-2)
        sums = self.dropout(product).unflatten(-1, (-1, self.factors)).sum(dim=-1)
        some = sums > 0
        root = torch.where(some, sums, 1.0).sqrt().where(some, 0.0)  # where, because the slope of a root is infinite at 0
        return normalize(root, dim=-1)


class PositionAttention(nn.Module):
    """w = softmax_n tanh(W (h_n + m_n)), with m by :class:`BilinearMatch` and h by a BiLSTM along time.

    One BiLSTM for all positions reads [ReLU(W_x x_n) + b; b] with b = ReLU(W_a a); the result is sum_n w_n x_n.
    """

    def __init__(self, width: int, audio_width: int, hidden: int, factors: int, dropout: float) -> None:
        super().__init__()
        self.match = BilinearMatch(width, audio_width, hidden, factors, dropout)
        self.position = nn.Linear(width, hidden)
        self.audio = nn.Linear(audio_width, hidden)
        self.lstm = SegmentLSTM(2 * hidden, hidden, layers=2)
        self.score = nn.Linear(hidden, 1)

    def forward(self, positions: Tensor, audio: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, S, width), (B, T, audio_width), (B, T) -> attended (B, T, width), weights (B, T, S)."""
        clips, count = len(positions), positions.shape[2]
        guide = torch.relu(self.audio(audio)).unsqueeze(2).expand(-1, -1, count, -1)
        steps = torch.cat([torch.relu(self.position(positions)) + guide, guide], dim=-1)
        along = self.lstm(steps.transpose(1, 2).flatten(0, 1), None if mask is None else mask.repeat_interleave(count, dim=0))
        along = along.unflatten(0, (clips, count)).transpose(1, 2)
        weights = torch.tanh(self.score(along + self.match(positions, audio))).squeeze(-1).softmax(dim=-1)
        return (weights.unsqueeze(-2) @ positions).squeeze(-2), weights
