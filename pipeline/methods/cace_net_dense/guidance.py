"""CACE-Net's co-guidance attention (AVCA) on two streams without positions: what is left of it where a step is one vector.

He et al., "CACE-Net", ACM MM 2024, Sec. 3.2; our reading for dense localization (:mod:`pipeline.methods.cace_net_dense.method`). Weights
over the positions of a map are 1 where there is one position; the channel gate, the calibration by the refined visual features and the
guidance of the audio remain.

Shape letters: B clips, T steps, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from pipeline.layers.pyramid import masked

Context = Literal["time", "none"]
Scale = Literal["sqrt", "none"]


class StreamAttention(nn.Module):
    """Attention of one head over the steps of a clip: softmax(q k) v, without an output projection.

    Args:
        width: D, also of the values; queries and keys have a quarter of it.
        scale: ``sqrt``: products divided by the root of their width; ``none``: as CACE-Net has them.
    """

    def __init__(self, width: int, scale: Scale) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width // 4), nn.Linear(width, width // 4)
        self.value = nn.Linear(width, width)
        self.scale = None if scale == "sqrt" else 1.0

    def forward(self, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T, D), (B, T) bool -> (B, T, D)."""
        query, key, value = self.query(asking), self.key(asked), self.value(asked)
        return scaled_dot_product_attention(query, key, value, attn_mask=mask.unsqueeze(1), scale=self.scale)


class ChannelGate(nn.Module):
    """Gate the channels of the visual stream by the audio.

    v (1 + g), g = s(L(ReLU(L(q)))), q = ReLU(L a) * ReLU(L v).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.audio, self.visual = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width), nn.Sigmoid())

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, T, D), (B, T, D) -> (B, T, D)."""
        return visual * (1 + self.gate(self.audio(audio).relu() * self.visual(visual).relu()))


class StreamCoGuidance(nn.Module):
    """AVCA on streams; vg and vg2 refine the visual stream by weights of their own and share a norm.

    1. v_cs: :class:`ChannelGate`
    2. vg = LN(v + Drop(attention of v over time)); with ``context: none`` the attention is the value alone
    3. v <- v_cs + beta s(vg) v_cs
    4. ag = LN(a + Drop(attention of a over time)); a~ = attention of vg2 to ag; a <- a + psi s(a~) a

    Args:
        width: D.
        context: whether the visual stream is refined over time.
        scale: of all attentions.
        beta, psi: strength of the guidance of the visual stream and of the audio; 0 leaves that side out.
        dropout: of the refinements.
    """

    def __init__(self, width: int, context: Context, scale: Scale, beta: float, psi: float, dropout: float) -> None:
        super().__init__()
        self.beta, self.psi = beta, psi
        self.channels = ChannelGate(width)

        def refinement() -> nn.Module:
            return StreamAttention(width, scale) if context == "time" else nn.Linear(width, width)

        self.refine = refinement() if beta else None
        self.refine_for_audio = refinement() if psi else None
        self.refine_audio = StreamAttention(width, scale) if psi else None
        self.ask_audio = StreamAttention(width, scale) if psi else None
        self.visual_norm = nn.LayerNorm(width) if beta or psi else None
        self.audio_norm = nn.LayerNorm(width) if psi else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Guide both streams by each other: (B, T, D), (B, T, D), (B, T) bool -> the same two."""
        guided_visual, guided_audio = self.channels(visual, audio), audio
        if self.refine is not None:
            guided_visual = guided_visual * (1 + self.beta * torch.sigmoid(self._refined(self.refine, visual, mask)))
        if self.refine_for_audio is not None:
            assert self.refine_audio is not None
            assert self.ask_audio is not None
            assert self.audio_norm is not None
            refined_audio = self.audio_norm(audio + self.dropout(self.refine_audio(audio, audio, mask)))
            found = self.ask_audio(self._refined(self.refine_for_audio, visual, mask), refined_audio, mask)
            guided_audio = audio * (1 + self.psi * torch.sigmoid(found))
        return masked(guided_visual, mask), masked(guided_audio, mask)

    def _refined(self, refine: nn.Module, visual: Tensor, mask: Tensor) -> Tensor:
        assert self.visual_norm is not None
        update = refine(visual, visual, mask) if isinstance(refine, StreamAttention) else refine(visual)
        return self.visual_norm(visual + self.dropout(update))
