"""Audio-guided channel and spatial attention (AGVA-CS).

Xu et al., "Cross-Modal Relation-Aware Networks for Audio-Visual Event Localization" (CMRAN), ACM MM 2020, as in its released code, which
CMBS and CACE-Net inherited.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.layers.pooling import mean_over_positions


class PositionScore(nn.Module):
    """w = softmax_n tanh(u [ReLU(W_x x_n) * ReLU(W_g g)]): the weight of each position given a guide vector.

    Args:
        width: D of a position.
        guide_width: D of the guide.
        hidden: width of W_x, W_g and u.
    """

    def __init__(self, width: int, guide_width: int, hidden: int) -> None:
        super().__init__()
        self.position = nn.Linear(width, hidden)
        self.guide = nn.Linear(guide_width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, positions: Tensor, guide: Tensor) -> Tensor:
        """(B, T, S, width), (B, T, guide_width) -> (B, T, S), summing to 1 over S."""
        # u (x * g) = x (u * g): so the product with the guide is neither made nor kept for the backward pass at every position.
        asked = (torch.relu(self.guide(guide)) * self.score.weight[0]).unsqueeze(-1)
        scores = (torch.relu(self.position(positions)) @ asked).squeeze(-1) + self.score.bias
        return torch.tanh(scores).softmax(dim=-1)


class AudioGuidedChannelGate(nn.Module):
    """Gates the channels of a map by the audio.

    1. q = mean_n[ReLU(W_a a) * ReLU(W_r R_n)]
    2. g = sigmoid(W_up ReLU(W_down q)), X'_n = X_n (1 + g)

    The gate multiplies the raw map X, never the map R of the query (in CMRAN both are the same).

    Args:
        visual_width, audio_width: D of a position and of the audio.
        hidden: width of the gate's bottleneck.
    """

    def __init__(self, visual_width: int, audio_width: int, hidden: int) -> None:
        super().__init__()
        self.audio_query = nn.Linear(audio_width, visual_width)
        self.visual_query = nn.Linear(visual_width, visual_width)
        self.down = nn.Linear(visual_width, hidden)
        self.up = nn.Linear(hidden, visual_width)

    def gated(self, visual: Tensor, reference: Tensor, audio: Tensor) -> Tensor:
        """X' of the maps X and R, (B, T, S, D), and a (B, T, D_a)."""
        # ReLU(W_a a) is the same for every position, so it can leave the mean.
        query = torch.relu(self.audio_query(audio)) * mean_over_positions(torch.relu(self.visual_query(reference)))
        gate = torch.sigmoid(self.up(torch.relu(self.down(query))))
        return visual * (1 + gate).unsqueeze(-2)


class AudioGuidedChannelSpatialAttention(AudioGuidedChannelGate):
    """Gates the channels of a map by the audio, then pools its positions by the audio.

    v = sum_n w_n X'_n, with X' the gated map, and w by :class:`PositionScore` with the audio as guide. ``hidden`` is also the score's
    width.
    """

    def __init__(self, visual_width: int, audio_width: int, hidden: int) -> None:
        super().__init__(visual_width, audio_width, hidden)
        self.position_score = PositionScore(visual_width, audio_width, hidden)

    def forward(self, visual: Tensor, reference: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the map X, with R in the query, guided by the audio a.

        X (B, T, S, D), R (B, T, S, D), a (B, T, D_a) -> v (B, T, D), w (B, T, S).
        """
        gated = self.gated(visual, reference, audio)
        weights = self.position_score(gated, audio)
        return (weights.unsqueeze(-2) @ gated).squeeze(-2), weights
