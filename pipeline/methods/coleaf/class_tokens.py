"""CoLeaF's Reference branches: attention within one modality over its segments and a learned token per class.

Sardari, Mustafa, Jackson, Hilton, "CoLeaF: A Contrastive-Collaborative Learning Framework for Weakly Supervised Audio-Visual Video
Parsing", ECCV 2024, Eqs. 5-7, as released. Shape letters: B batch, T segments, C classes, D width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.layers.hybrid_attention import HybridAttention, ParsingFrontEnd
from pipeline.layers.precision import at_least_float32

TokenHead = Literal["mean", "linear", "none"]


class Referred(NamedTuple):
    """Outputs of a Reference branch.

    tokens: (B, T, D), of the segments.
    segments: probabilities (B, T, C).
    clip: probabilities (B, C).
    classes: probabilities from the class tokens (B, C); None without class tokens.
    """

    tokens: Tensor
    segments: Tensor
    clip: Tensor
    classes: Tensor | None

    def detached(self) -> Referred:
        """Detach all outputs from the graph, for use as a teacher."""
        return Referred(*(None if part is None else part.detach() for part in self))  # type: ignore[arg-type]


class ReferenceBranch(nn.Module):
    """A Reference branch of one modality.

    [c; x] = SA([C; X]), p_t = sigmoid(FC(x_t)), P = sum_t A_t p_t with A = softmax over time of FC'(x), and sigmoid(head(c)).

    The C class tokens come before the segments, start at zero and have no position. SA is one post-norm layer of the hybrid attention
    network without its attention to the other modality.

    Args:
        width: D.
        num_classes: C.
        token_head: how a class token becomes a probability after the attention. ``mean`` over its channels (pooling as printed and
            released): the layer ends in a layer norm, whose output has mean 0 as long as its gain and bias are constant over the channels,
            so the probability is 1/2 for every class and no gradient reaches the token. ``linear``: a separate linear layer for each class
            token. ``none``: no class tokens.
        feedforward, dropout: of the attention layer.
        head_dropout: on the segments' tokens before FC.
        drops_attention: apply that dropout before FC' too, as released for the visual branch; the audio branch does not.
    """

    def __init__(
        self, width: int, num_classes: int, token_head: TokenHead, feedforward: int, dropout: float, head_dropout: float,
        drops_attention: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.token_head, self.drops_attention = token_head, drops_attention
        self.class_tokens = None if token_head == "none" else nn.Parameter(torch.zeros(num_classes, width))
        self.attention = HybridAttention(width, feedforward=feedforward, dropout=dropout, crosses=False)
        self.dropout = nn.Dropout(head_dropout)
        self.classifier, self.over_time = (nn.Linear(width, num_classes) for _ in range(2))
        self.token_classifier = nn.Linear(width, num_classes) if token_head == "linear" else None

    def forward(self, stream: Tensor, mask: Tensor) -> Referred:
        """Run the branch; probabilities are at least float32.

        Args:
            stream: (B, T, D).
            mask: (B, T), bool, with at least one True per clip.
        """
        tokens, classes = self._attended(stream, mask)
        dropped = self.dropout(tokens)
        segments = at_least_float32(self.classifier(dropped)).sigmoid()
        over_time = at_least_float32(self.over_time(dropped if self.drops_attention else tokens))
        over_time = over_time.masked_fill(~mask.unsqueeze(-1), float("-inf")).softmax(dim=1)
        return Referred(tokens, segments, (over_time * segments).sum(dim=1), classes)

    def _attended(self, stream: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens of the segments (B, T, D), probabilities from the class tokens (B, C) or None."""
        if self.class_tokens is None:
            return self.attention.stream(stream, None, mask), None
        clips, number = len(stream), len(self.class_tokens)
        before = self.class_tokens.to(stream.dtype).expand(clips, -1, -1)
        everyone = torch.cat([mask.new_ones(clips, number), mask], dim=1)
        attended = self.attention.stream(torch.cat([before, stream], dim=1), None, everyone)
        of_classes = at_least_float32(attended[:, :number])
        if self.token_classifier is None:
            scores = of_classes.mean(dim=-1)
        else:
            scores = (of_classes * self.token_classifier.weight).sum(dim=-1) + self.token_classifier.bias
        return attended[:, number:], scores.sigmoid()


class References(nn.Module):
    """Both Reference branches, each with its own linear front end; they share nothing.

    Parameters at 2048, 128 and a motion stream of 512, D = 512, C = 25, head ``mean``: 1,682,482 audio, 3,452,978 visual. Released:
    2,735,154 and 4,505,650; of each, 1,052,672 (the attention to the other modality and two layer norms) are never used.

    Args:
        visual_width, audio_width, motion_width: of a segment; ``motion_width`` None: no motion stream.
        width, num_classes, token_head, feedforward, dropout, head_dropout: as in :class:`ReferenceBranch`.
    """

    def __init__(
        self, visual_width: int, audio_width: int, motion_width: int | None, width: int, num_classes: int, token_head: TokenHead,
        feedforward: int, dropout: float, head_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.front_end = ParsingFrontEnd(visual_width, audio_width, motion_width, width)
        self.audio, self.visual = (
            ReferenceBranch(width, num_classes, token_head, feedforward, dropout, head_dropout, drops) for drops in (False, True)
        )

    def embed_audio(self, audio: Tensor, mask: Tensor) -> Referred:
        """Run the audio branch on (B, T, D_a), (B, T) bool."""
        return self.audio(self.front_end.embed_audio(audio), mask)

    def embed_visual(self, visual: Tensor, motion: Tensor | None, mask: Tensor) -> Referred:
        """Run the visual branch on (B, T, D_v), (B, T, D_m) or None, (B, T) bool."""
        return self.visual(self.front_end.embed_visual(visual, motion), mask)
