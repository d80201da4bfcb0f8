"""MM-Pyramid's encoder: windowed attention within and across two streams at growing distances, and the fusion of its levels.

Yu, Cheng, Zhao, Feng, Zhang, "MM-Pyramid: Multimodal Pyramid Attentional Network for Audio-Visual Event Localization and Video Parsing",
ACM MM 2022, as released; LEAP's encoder too. Unlike the detectors' pyramid (:mod:`pipeline.layers.pyramid`) no level is shorter.

B batch, T segments, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryNormBlock(nn.Module):
    """Attention and feed-forward block that normalises the query alone.

    h = q + Drop(MHA(LN(q), x, x)), h + Drop(FFN(LN(h))).

    Args:
        width: D.
        feedforward: hidden width of the FFN.
        dropout: on both branches and within the FFN.
        attention_dropout: on the attention weights.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=attention_dropout, batch_first=True)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width))
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, other: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Both halves: (B, Q, D), (B, T, D), (B * heads, Q, T) bool or None -> (B, Q, D).

        ``blocked`` is where not to attend.
        """
        return self.feed(self.attend(query, other, blocked))

    def attend(self, query: Tensor, other: Tensor, blocked: Tensor | None) -> Tensor:
        """The first half, h."""
        attended = self.attention(self.attention_norm(query), other, other, attn_mask=blocked, need_weights=False)[0]
        return query + self.dropout(attended)

    def feed(self, hidden: Tensor) -> Tensor:
        """The second half."""
        return hidden + self.dropout(self.feedforward(self.feedforward_norm(hidden)))


def blocked_outside(mask: Tensor, distance: int, heads: int) -> Tensor:
    """Where not to attend: segments farther than ``distance``, and padding; a segment may always attend to its own place.

    (B, T) bool -> (B * heads, T, T) bool. Without the exception a segment far behind the clip's end could attend to nothing.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    apart = (place[:, None] - place).abs()
    blocked = ((apart > distance) | ~mask[:, None]) & (apart > 0)
    return blocked.repeat_interleave(heads, dim=0)


class PyramidLevel(nn.Module):
    """One level: each stream attends to itself and to the other within ``distance``; gates mix both; a dilated convolution follows.

    m = sigmoid(L [s; c]) s + sigmoid(L' [s; c]) c, s the stream's attention to itself and c that to the other stream, then
    ReLU(m + Conv1(ReLU(Conv3(m)))) with dilation ``distance``. One block serves both directions across the streams.

    Args:
        distance: in segments, of the windows and of the convolution.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, attention_dropout: float, distance: int) -> None:
        super().__init__()
        self.distance, self.heads = distance, heads
        blocks = (QueryNormBlock(width, heads, feedforward, dropout, attention_dropout) for _ in range(3))
        self.own_audio, self.own_visual, self.cross = blocks
        self.own_gates, self.cross_gates, self.wide, self.narrow = (nn.ModuleDict() for _ in range(4))
        for modality in ("audio", "visual"):
            self.own_gates[modality], self.cross_gates[modality] = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
            self.wide[modality] = nn.Conv1d(width, width, 3, padding=distance, dilation=distance)
            self.narrow[modality] = nn.Conv1d(width, width, 1)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor, cross: bool) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> the same two; without ``cross`` c is 0."""
        blocked = blocked_outside(mask, self.distance, self.heads)
        if cross:  # both directions at once
            across = self.cross(torch.cat([audio, visual]), torch.cat([visual, audio]), torch.cat([blocked, blocked]))
            of_audio, of_visual = across.chunk(2)
        else:
            of_audio, of_visual = torch.zeros_like(audio), torch.zeros_like(visual)
        audio, visual = self.own_audio(audio, audio, blocked), self.own_visual(visual, visual, blocked)
        return self._mixed("audio", audio, of_audio, mask), self._mixed("visual", visual, of_visual, mask)

    def _mixed(self, modality: str, own: Tensor, cross: Tensor, mask: Tensor) -> Tensor:
        both = torch.cat([own, cross], dim=-1)
        mixed = self.own_gates[modality](both).sigmoid() * own + self.cross_gates[modality](both).sigmoid() * cross
        mixed = mixed.masked_fill(~mask.unsqueeze(-1), 0.0).transpose(1, 2)  # (B, D, T)
        return torch.relu(mixed + self.narrow[modality](torch.relu(self.wide[modality](mixed)))).transpose(1, 2)


class LevelFusion(nn.Module):
    """One stream of all levels -> one: a segment's levels attend to each other, and their gated sum remains.

    z = the block on the levels of a segment; sum over the levels of sigmoid(L z) z.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.block = QueryNormBlock(width, heads, feedforward, dropout, attention_dropout)
        self.gate = nn.Linear(width, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(B, T, D) of each level -> (B, T, D)."""
        stacked = torch.stack(levels, dim=2)  # (B, T, levels, D)
        tokens = stacked.flatten(0, 1)
        related = self.block(tokens, tokens)
        return (self.gate(related).sigmoid() * related).sum(dim=1).unflatten(0, stacked.shape[:2])


class PyramidEncoder(nn.Module):
    """The levels, one after another, at distances 1, 2, 4, ..., and their fusion.

    Every layer starts from weights of its own, while the released ones are copies of each other at the start.

    Args:
        width: D.
        levels: number of levels.
        heads, feedforward: of every attention block.
        dropout, attention_dropout: as in :class:`QueryNormBlock`.
    """

    def __init__(self, width: int, heads: int, levels: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        of_blocks = (width, heads, feedforward, dropout, attention_dropout)
        self.levels = nn.ModuleList(PyramidLevel(*of_blocks, distance=2**level) for level in range(levels))
        self.audio_fusion, self.visual_fusion = LevelFusion(*of_blocks), LevelFusion(*of_blocks)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor, cross: bool = True) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> the same two; without ``cross`` each stream stays alone."""
        of_audio, of_visual = [], []
        for level in self.levels:
            audio, visual = level(audio, visual, mask, cross)
            of_audio.append(audio)
            of_visual.append(visual)
        return self.audio_fusion(of_audio), self.visual_fusion(of_visual)
