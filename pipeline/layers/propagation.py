"""Propagation of positive samples between the modalities, and the loss on their similarity.

Zhou et al., "Positive Sample Propagation along the Audio-Visual Event Line" (PSP), CVPR 2021, as released; CPSP and VSCG inherited both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

EPSILON = 1e-8


class PositiveSamplePropagation(nn.Module):
    """Add to each segment the similar segments of the other modality, cutting weak connections; as released.

    b = ReLU(v_2 a_1^T / sqrt(D)); each matrix row is divided by its sum; entries up to ``threshold`` become 0, giving g; v+ = v + g a_2;
    likewise a+ = a + g' v_1 with g' from b^T. v_1, v_2, a_1, a_2 are ReLU projections of v and a. Both modalities share one layer norm.

    Args:
        width: D.
        threshold: tau, compared with matrix rows that sum to 1: with T = 10 segments, 0.1 is an even share.
        dropout: of the projections.
        refined: normalize the matrix rows again after the cut (supervised PSP; weak PSP does not).
        projected: project v+ and a+ before the norm; None: where ``refined``.
        normalized: end with the layer norm.
    """

    def __init__(
        self, width: int, threshold: float, dropout: float, refined: bool, projected: bool | None = None, normalized: bool = True
    ) -> None:  # fmt: skip
        super().__init__()

        def branch() -> nn.Module:
            return nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Dropout(dropout))

        self.visual_value, self.visual_key, self.audio_key, self.audio_value = branch(), branch(), branch(), branch()
        projected = refined if projected is None else projected
        self.visual_output: nn.Module = branch() if projected else nn.Identity()
        self.audio_output: nn.Module = branch() if projected else nn.Identity()
        self.norm: nn.Module = nn.LayerNorm(width, eps=1e-6) if normalized else nn.Identity()
        self.threshold, self.refined = threshold, refined

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate both ways: (B, T, D), (B, T, D), (B, T) bool -> visual, audio (B, T, D)."""
        resemblance = torch.relu(self.visual_key(visual) @ self.audio_key(audio).transpose(1, 2) / visual.shape[-1] ** 0.5)
        resemblance = resemblance.masked_fill(~(mask.unsqueeze(2) & mask.unsqueeze(1)), 0.0)  # (B, T visual, T audio)
        to_visual = self._connections(resemblance).to(visual.dtype)
        to_audio = self._connections(resemblance.transpose(1, 2)).to(audio.dtype)
        visual_sum = visual + to_visual @ self.audio_value(audio)
        audio_sum = audio + to_audio @ self.visual_value(visual)
        return self.norm(self.visual_output(visual_sum)), self.norm(self.audio_output(audio_sum))

    def _connections(self, resemblance: Tensor) -> Tensor:
        """Each matrix row's shares above the threshold, the others 0: (B, T, T), >= 0 -> (B, T, T)."""
        resemblance = at_least_float32(resemblance)
        shares = resemblance / (resemblance.sum(dim=-1, keepdim=True) + EPSILON)
        kept = shares.masked_fill(shares <= self.threshold, 0.0)
        return kept / (kept.sum(dim=-1, keepdim=True) + EPSILON) if self.refined else kept


def pair_similarity_loss(similarity: Tensor, event: Tensor, mask: Tensor, even: bool = True) -> Tensor:
    """Squared distance between the shares of ReLU(similarity) in a clip and even shares of its event segments.

    Args:
        similarity: (B, T), cosines.
        event: (B, T), bool.
        mask: (B, T), bool.
        even: the target of a clip without an event is even shares of all its segments (PSP); else zero for each (CPSP).

    Returns:
        Scalar, mean over valid segments.
    """
    event, positive = event & mask, torch.relu(similarity).masked_fill(~mask, 0.0)
    wanted = torch.where(event.any(dim=1, keepdim=True) | (not even), event, mask).to(similarity.dtype)
    wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1)
    shares = positive / (positive.sum(dim=1, keepdim=True) + EPSILON)
    return masked_mean((shares - wanted) ** 2, mask)
