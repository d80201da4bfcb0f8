"""Audio-visual co-guidance attention (AVCA): He et al., "CACE-Net", ACM MM 2024, Sec. 3.2, Eqs. 1-6."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from pipeline.layers.audio_guided_channel_spatial import AudioGuidedChannelSpatialAttention, PositionScore
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.pooling import mean_over_positions

Guidance = Literal["none", "audio", "visual", "both"]


class UnscaledAttention(nn.Module):
    """Attention of one head without the 1/sqrt(d), as CMBS and CACE-Net (Eqs. 3-5) use it.

    softmax(q K^T) V with q = W_Q x, K = W_K m, V = W_V m; no output projection.

    Args:
        query_width, memory_width: D of the input of the queries, and of the keys and values.
        attention_width: width of q and K.
        value_width: width of V and of the output.
    """

    def __init__(self, query_width: int, memory_width: int, attention_width: int, value_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, attention_width)
        self.key = nn.Linear(memory_width, attention_width)
        self.value = nn.Linear(memory_width, value_width)

    def forward(self, features: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, L, query_width), (N, M, memory_width), (N, M) bool (False: not attended to) -> (N, L, value_width)."""
        allowed = None if mask is None else mask.unsqueeze(1)
        if features is memory and features.is_cuda:
            query, key, value = self._projected(features)
        else:
            query, key, value = self.query(features), self.key(memory), self.value(memory)
        return scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=1.0)

    def _projected(self, features: Tensor) -> list[Tensor]:
        """q, K and V in one product, equal up to rounding.

        It reads the features, and in the backward pass writes their gradient, once instead of three times: on a GPU the maps' way through
        memory takes longer than the arithmetic.
        """
        layers = (self.query, self.key, self.value)
        weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
        return list(linear(features, weight, bias).split([layer.out_features for layer in layers], dim=-1))


class Residual(nn.Module):
    """LN(x + Drop(update)), as the released code puts it around each self-attention.

    Two self-attentions share one, so it holds no attention itself.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = MapDropout(dropout)

    def forward(self, features: Tensor, update: Tensor) -> Tensor:
        """(..., D), (..., D) -> (..., D)."""
        return self.norm(features + self.dropout(update))


class AudioGuidedVisual(nn.Module):
    """Eqs. 1-2: v = v_cs + beta sigmoid(v~) v_cs.

    v_cs comes from AGVA-CS; v~ is the refined map pooled by its own mean.
    """

    def __init__(self, visual_width: int, audio_width: int, hidden: int, beta: float) -> None:
        super().__init__()
        self.channel_spatial = AudioGuidedChannelSpatialAttention(visual_width, audio_width, hidden)
        self.calibration = PositionScore(visual_width, visual_width, hidden)
        self.beta = beta

    def forward(self, visual: Tensor, refined: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Guide the map X by the audio a.

        X, X^g (B, T, S, D), a (B, T, D_a) -> v (B, T, D), weights of the positions (B, T, S).
        """
        attended, weights = self.channel_spatial(visual, refined, audio)
        own_weights = self.calibration(refined, mean_over_positions(refined))
        calibration = (own_weights.unsqueeze(-2) @ refined).squeeze(-2)
        return attended * (1 + self.beta * torch.sigmoid(calibration)), weights


class VisualGuidedAudio(nn.Module):
    """Eqs. 3-6: a + psi sigmoid(a~) a, where the squeezed visual features attend to the refined audio for a~."""

    def __init__(self, visual_width: int, audio_width: int, psi: float, dropout: float, residual: bool) -> None:
        super().__init__()
        self.own = UnscaledAttention(audio_width, audio_width, audio_width, audio_width)
        self.residual = Residual(audio_width, dropout) if residual else None
        self.query = UnscaledAttention(visual_width, audio_width, audio_width, audio_width)
        self.psi = psi

    def forward(self, audio: Tensor, squeezed: Tensor, mask: Tensor) -> Tensor:
        """Audio a (B, T, D_a), v^g' (B, T, D), (B, T) bool -> (B, T, D_a)."""
        refined = self.own(audio, audio, mask)
        if self.residual is not None:
            refined = self.residual(audio, refined)
        found = self.query(squeezed, refined, mask)
        return audio * (1 + self.psi * torch.sigmoid(found))


class CoGuidance(nn.Module):
    """Both directions of guidance, or one, or none (the map's mean and the audio as they are).

    Args:
        visual_width, audio_width: D of a position and of the audio.
        hidden: width of AGVA-CS and the calibration.
        attention_width: width of the spatial self-attention's queries and keys.
        guidance: the guiding modality: ``audio`` guides the visual map, ``visual`` guides the audio.
        released: one spatial self-attention per direction, with residual, dropout and a layer norm shared by both; else (paper) one
            self-attention for both directions, without these.
    """

    def __init__(
        self, visual_width: int, audio_width: int, *, hidden: int, attention_width: int, guidance: Guidance,
        released: bool, beta: float, psi: float, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()

        def spatial_attention() -> UnscaledAttention:
            return UnscaledAttention(visual_width, visual_width, attention_width, visual_width)

        self.residual = Residual(visual_width, dropout) if released and guidance != "none" else None
        self.attention: UnscaledAttention | None = None
        self.attention_for_audio: UnscaledAttention | None = None
        self.visual: AudioGuidedVisual | None = None
        self.audio: VisualGuidedAudio | None = None
        if guidance != "none":
            self.attention = spatial_attention()
        if guidance == "both" and released:
            self.attention_for_audio = spatial_attention()
        if guidance in ("audio", "both"):
            self.visual = AudioGuidedVisual(visual_width, audio_width, hidden, beta)
        if guidance in ("visual", "both"):
            self.audio = VisualGuidedAudio(visual_width, audio_width, psi, dropout, released)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Guide the modalities by each other.

        X (B, T, S, D), a (B, T, D_a), (B, T) bool -> v (B, T, D), a (B, T, D_a), weights of the positions (B, T, S) or None.
        """
        if self.attention is None:
            return mean_over_positions(visual), audio, None
        refined = self._refine(visual, self.attention)
        guided_visual, weights = (mean_over_positions(visual), None) if self.visual is None else self.visual(visual, refined, audio)
        if self.audio is None:
            return guided_visual, audio, weights
        if self.attention_for_audio is not None:
            refined = self._refine(visual, self.attention_for_audio)
        return guided_visual, self.audio(audio, mean_over_positions(refined), mask), weights

    def _refine(self, visual: Tensor, attention: UnscaledAttention) -> Tensor:
        """X (B, T, S, D) -> X^g, gathered over the positions of each segment."""
        maps = visual.flatten(0, 1)
        refined = attention(maps, maps)
        if self.residual is not None:
            refined = self.residual(maps, refined)
        return refined.unflatten(0, visual.shape[:2])
