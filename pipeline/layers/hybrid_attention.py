"""Blocks of the hybrid attention network (HAN).

Tian, Li, Xu, "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video Parsing", ECCV 2020, as released; inherited by MA,
JoMoLD, CMPAE, CoLeaF; with several heads, layers, and one stream after the other by VALOR and UWAV.

B batch, T segments, C classes, D width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32

Order = Literal["parallel", "sequential"]


class ParsingFrontEnd(nn.Module):
    """Features of a segment -> audio and visual streams of one width.

    Audio: a linear layer. Visual: a linear layer of the frames' mean; with a motion stream, its output and that of a linear layer of the
    motion are concatenated and pass a third layer. The papers apply the visual layer to every frame and then average; without a
    non-linearity in between, the result is the same up to rounding. CMPAE puts an ELU after each of the four layers: there the visual
    layer is applied to every frame.

    Args:
        visual_width: D of a segment.
        audio_width: D of a segment's audio; None for a network that sees the visual streams alone.
        motion_width: D of a segment's motion; None without that stream.
        width: D of the output.
        elu: put an ELU after every layer; the frames of a segment are then given separately and averaged after the visual layer's ELU.
    """

    audio: nn.Linear | None

    def __init__(
        self, visual_width: int, audio_width: int | None, motion_width: int | None, width: int, elu: bool = False
    ) -> None:  # fmt: skip
        super().__init__()
        self.elu = elu
        self.audio = None if audio_width is None else nn.Linear(audio_width, width)
        self.visual = nn.Linear(visual_width, width)
        self.motion: nn.Linear | None = None
        if motion_width is not None:
            self.motion = nn.Linear(motion_width, width)
            self.fusion = nn.Linear(2 * width, width)

    def forward(self, visual: Tensor, audio: Tensor, motion: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed both modalities.

        (B, T, D_v), with ``elu`` (B, T, S, D_v), (B, T, D_a), (B, T, D_m) or None -> audio, visual (B, T, D).
        """
        return self.embed_audio(audio), self.embed_visual(visual, motion)

    def embed_audio(self, audio: Tensor) -> Tensor:
        """(B, T, D_a) -> (B, T, D)."""
        assert self.audio is not None, "this network does not hear"
        return self._activated(self.audio(audio))

    def embed_visual(self, visual: Tensor, motion: Tensor | None) -> Tensor:
        """(B, T, D_v) or (B, T, S, D_v), (B, T, D_m) or None -> (B, T, D)."""
        hidden = self._activated(self.visual(visual))
        if self.elu:
            hidden = hidden.mean(dim=2)
        if self.motion is not None:
            hidden = self._activated(self.fusion(torch.cat([hidden, self._activated(self.motion(motion))], dim=-1)))
        return hidden

    def _activated(self, hidden: Tensor) -> Tensor:
        return torch.nn.functional.elu(hidden) if self.elu else hidden


class HybridAttention(nn.Module):
    """HAN: attention of a stream q to itself and to the other stream o, then a feed-forward block.

    h = LN(q + Drop(MHA(q, o, o)) + Drop(MHA(q, q, q))), LN(h + Drop(FFN(h))). One layer serves both streams, and each attends to the
    other's input; in ``sequential`` order the visual stream attends to the audio stream's output. No positional encoding.

    Args:
        width: D.
        heads: heads of both attentions.
        feedforward: hidden width of the FFN.
        dropout: on attention weights and on every branch.
        crosses: whether the layer has attention to another stream.
        order: whether the streams pass the layer side by side, or audio before visual.
    """

    cross: nn.MultiheadAttention | None

    def __init__(
        self, width: int, heads: int = 1, feedforward: int = 512, dropout: float = 0.1, crosses: bool = True, order: Order = "parallel"
    ) -> None:
        super().__init__()
        self.order = order
        self.cross = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True) if crosses else None
        self.own = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width))
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor, cross: bool = True) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> the same two; without ``cross`` each attends to itself alone."""
        updated = self.stream(audio, visual if cross else None, mask)
        other = updated if self.order == "sequential" else audio
        return updated, self.stream(visual, other if cross else None, mask)

    def stream(self, query: Tensor, other: Tensor | None, mask: Tensor) -> Tensor:
        """One stream (B, T, D), the other one or None, (B, T) bool -> (B, T, D)."""
        hidden = query + self.dropout(self.own(query, query, query, key_padding_mask=~mask, need_weights=False)[0])
        if other is not None:
            assert self.cross is not None
            hidden = hidden + self.dropout(self.cross(query, other, other, key_padding_mask=~mask, need_weights=False)[0])
        hidden = self.attention_norm(hidden)
        return self.feedforward_norm(hidden + self.dropout(self.feedforward(hidden)))


class HybridEncoder(nn.Module):
    """Layers of :class:`HybridAttention`, one after another, each with its own weights.

    Args:
        width: D.
        layers: number of layers.
        heads, feedforward, dropout, order: of each layer.
    """

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float, order: Order) -> None:
        super().__init__()
        self.layers = nn.ModuleList(HybridAttention(width, heads, feedforward, dropout, order=order) for _ in range(layers))

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor, cross: bool = True) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> the same two; without ``cross`` each attends to itself alone."""
        for layer in self.layers:
            audio, visual = layer(audio, visual, mask, cross)
        return audio, visual


class Pooled(NamedTuple):
    """Probabilities from :class:`AttentivePooling`.

    audio, visual: of segments, (B, T, C).
    clip_audio, clip_visual, clip: of the clip, (B, C), in audio, visual, and either (which may exceed 1).
    """

    audio: Tensor
    visual: Tensor
    clip_audio: Tensor
    clip_visual: Tensor
    clip: Tensor


def pool(p: Tensor, over_time: Tensor, over_modalities: Tensor, mask: Tensor) -> Pooled:
    """MMIL's pooling of given probabilities by given scores of the attention, in float32 at least.

    Args:
        p: of segments, (B, T, 2, C), audio before visual.
        over_time, over_modalities: scores, (B, T, 2, C).
        mask: (B, T), bool, with a True in every clip.
    """
    over_time = at_least_float32(over_time).masked_fill(~mask[:, :, None, None], float("-inf")).softmax(dim=1)
    over_modalities = at_least_float32(over_modalities).softmax(dim=2)
    clips = (over_time * p).sum(dim=1)  # (B, 2, C)
    return Pooled(p[:, :, 0], p[:, :, 1], clips[:, 0], clips[:, 1], (over_time * over_modalities * p).sum(dim=(1, 2)))


class AttentivePooling(nn.Module):
    """MMIL: multimodal multiple-instance learning by attention over time and over the modalities, class by class.

    p = sigmoid(L x); W_t: softmax over time, per modality; W_m: softmax over the two modalities, per segment.
    P^a, P^v = sum_t W_t p; P = sum_t sum_m W_t W_m p. The weights of P sum not to 1 but to between 0 and 2, so P may exceed 1.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classifier, self.over_time, self.over_modalities = (nn.Linear(width, num_classes) for _ in range(3))

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor) -> Pooled:
        """Pool (B, T, D), (B, T, D), (B, T) bool with a True in every clip, in float32 at least."""
        both = torch.stack([audio, visual], dim=2)  # (B, T, 2, D)
        p = at_least_float32(self.classifier(both)).sigmoid()
        return pool(p, self.over_time(both), self.over_modalities(both), mask)
