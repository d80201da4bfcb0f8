"""Positive sample propagation (PSP): Zhou, Zheng, Zhong, Hao, Wang, "Positive Sample Propagation along the Audio-Visual Event Line",
CVPR 2021, as released.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32

EPSILON = 1e-8


class PositiveSamplePropagation(nn.Module):
    """Each segment of one modality gathers the segments of the other that resemble it, the weak connections cut.

    b = ReLU(v_2 a_1^T / sqrt(D)); each row over its sum; entries up to ``threshold`` become 0; v+ = v + g a_2; likewise a+ = a + g' v_1
    with g' from b^T. v_1, v_2, a_1, a_2 are ReLU-projections of v and a. One layer norm for both modalities.

    Args:
        width: D.
        threshold: tau, against rows that sum to 1: with T = 10 segments, 0.1 is an even share.
        refined: rows are normalized once more after the cut, and v+, a+ projected before the norm (PSP supervised); weak PSP does neither.
    """

    def __init__(self, width: int, threshold: float, dropout: float, refined: bool) -> None:
        super().__init__()

        def branch() -> nn.Module:
            return nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Dropout(dropout))

        self.visual_value, self.visual_key, self.audio_key, self.audio_value = branch(), branch(), branch(), branch()
        self.visual_output: nn.Module = branch() if refined else nn.Identity()
        self.audio_output: nn.Module = branch() if refined else nn.Identity()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.threshold, self.refined = threshold, refined

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> visual, audio (B, T, D)."""
        resemblance = torch.relu(self.visual_key(visual) @ self.audio_key(audio).transpose(1, 2) / visual.shape[-1] ** 0.5)
        resemblance = resemblance.masked_fill(~(mask.unsqueeze(2) & mask.unsqueeze(1)), 0.0)  # (B, T visual, T audio)
        to_visual = self._connections(resemblance).to(visual.dtype)
        to_audio = self._connections(resemblance.transpose(1, 2)).to(audio.dtype)
        visual_sum = visual + to_visual @ self.audio_value(audio)
        audio_sum = audio + to_audio @ self.visual_value(visual)
        return self.norm(self.visual_output(visual_sum)), self.norm(self.audio_output(audio_sum))

    def _connections(self, resemblance: Tensor) -> Tensor:
        """(B, T, T), >= 0 -> the rows' shares above the threshold, the others 0."""
        resemblance = at_least_float32(resemblance)
        shares = resemblance / (resemblance.sum(dim=-1, keepdim=True) + EPSILON)
        kept = shares.masked_fill(shares <= self.threshold, 0.0)
        return kept / (kept.sum(dim=-1, keepdim=True) + EPSILON) if self.refined else kept
