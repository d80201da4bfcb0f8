"""MAGAN's attention: within a modality, and of each modality guided by the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.layers.audio_guided_channel_spatial import PositionScore
from pipeline.layers.map_dropout import MapDropout


class SelfAttention(nn.Module):
    """Drop ReLU Lin(LN(x_n + MHA(x_n))), x_n = LN(x), with one norm for both places."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=attention_dropout, batch_first=True)
        self.output = nn.Sequential(nn.Linear(width, width), nn.ReLU(), MapDropout(dropout))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, L, D), (N, L) bool (False: not attended to) or None -> (N, L, D)."""
        features = self.norm(features)
        padded = None if mask is None else ~mask
        attended = self.attention(features, features, features, key_padding_mask=padded, need_weights=False)[0]
        return self.output(self.norm(features + attended))


class ChannelGate(nn.Module):
    """g = sigmoid(W_up ReLU(W_down [mean_n q_n; max_n q_n])), q_n = ReLU(W_v x_n) * ReLU(W_a a)."""

    def __init__(self, visual_width: int, audio_width: int, hidden: int) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_width, visual_width)
        self.audio = nn.Linear(audio_width, visual_width)
        self.down, self.up = nn.Linear(2 * visual_width, hidden), nn.Linear(hidden, visual_width)

    def forward(self, positions: Tensor, audio: Tensor) -> Tensor:
        """(B, T, S, D), (B, T, D_a) -> (B, T, D)."""
        query = torch.relu(self.visual(positions)) * torch.relu(self.audio(audio)).unsqueeze(-2)
        both = torch.cat([query.mean(dim=-2), query.amax(dim=-2)], dim=-1)
        return torch.sigmoid(self.up(torch.relu(self.down(both))))


class MutualCalibration(nn.Module):
    """f_1 (1 + b_0 sigmoid(f_2)) + f_2 (1 + b_1 sigmoid(f_1)), with b_0 and b_1 learned, 0.5 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Any shape, twice -> the same."""
        return first * (1 + self.strength[0] * second.sigmoid()) + second * (1 + self.strength[1] * first.sigmoid())


class AudioToVisual(nn.Module):
    """Gate the channels of a map, pool it by two guides, and calibrate the two results by each other.

    X = x (1 + g). X is pooled twice: by weights of x guided by [mean_n X; max_n X], and by weights of X guided by the audio.
    """

    def __init__(self, visual_width: int, audio_width: int, hidden: int) -> None:
        super().__init__()
        self.gate = ChannelGate(visual_width, audio_width, hidden)
        self.by_map = PositionScore(visual_width, 2 * visual_width, hidden)
        self.by_audio = PositionScore(visual_width, audio_width, hidden)
        self.calibration = MutualCalibration()

    def forward(self, positions: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, S, D), (B, T, D_a) -> v (B, T, D), the audio's weights (B, T, S)."""
        gated = positions * (1 + self.gate(positions, audio)).unsqueeze(-2)
        guide = torch.cat([gated.mean(dim=-2), gated.amax(dim=-2)], dim=-1)
        weights = self.by_audio(gated, audio)
        pooled = [(share.unsqueeze(-2) @ gated).squeeze(-2) for share in (self.by_map(positions, guide), weights)]
        return self.calibration(*pooled), weights


class VisualToAudio(nn.Module):
    """Y = ReLU(W_a a) (1 + g), with W_a that of the gate, then Y calibrated by itself.

    The released code pools Y by two spatial attentions over one element each, whose weights are always 1: both results are Y, and the
    attentions' weights get no gradient. They do not exist here.
    """

    def __init__(self, visual_width: int, audio_width: int, hidden: int) -> None:
        super().__init__()
        self.gate = ChannelGate(visual_width, audio_width, hidden)
        self.calibration = MutualCalibration()

    def forward(self, positions: Tensor, audio: Tensor) -> Tensor:
        """(B, T, S, D), (B, T, D_a) -> (B, T, D)."""
        gated = torch.relu(self.gate.audio(audio)) * (1 + self.gate(positions, audio))
        return self.calibration(gated, gated)
