"""Audio-guided visual attention over positions (AVGA).

Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018, the paragraph on audio-guided visual attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AudioGuidedSpatialAttention(nn.Module):
    """Attention over positions: the raw map is averaged with weights softmax_n z_n, guided by the audio.

    z_n = w_h^T tanh(W_v ReLU(U_v x_n) + g_n 1), g = W_g ReLU(U_a a). W_v and W_g project to S, so component n of the audio vector g
    belongs to position n and is added to all S columns of its row (as released; the paper's (W_g ...) 1^T means the same).

    Args:
        visual_width, audio_width: D of a position and of the audio.
        positions: S; a map of another size needs another module.
        hidden: width of U_v and U_a.
    """

    def __init__(self, visual_width: int, audio_width: int, positions: int, hidden: int) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_width, hidden)
        self.audio = nn.Linear(audio_width, hidden)
        self.visual_score = nn.Linear(hidden, positions, bias=False)
        self.audio_score = nn.Linear(hidden, positions, bias=False)
        self.score = nn.Linear(positions, 1, bias=False)

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, S, visual_width), (B, T, audio_width) -> attended (B, T, visual_width), weights (B, T, S)."""
        positions = self.visual_score(torch.relu(self.visual(visual)))  # (B, T, S, S)
        guide = self.audio_score(torch.relu(self.audio(audio)))  # (B, T, S)
        weights = self.score(torch.tanh(positions + guide.unsqueeze(-1))).squeeze(-1).softmax(dim=-1)
        return (weights.unsqueeze(-2) @ visual).squeeze(-2), weights
