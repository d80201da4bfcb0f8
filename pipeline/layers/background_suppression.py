"""Gates that suppress the background.

Xia and Zhao, "Cross-Modal Background Suppression for Audio-Visual Event Localization" (CMBS), CVPR 2022, its supervised form as released;
CACE-Net inherited it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pipeline.layers.pooling import top_k_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import MutualInteraction, Related

GateLoss = Literal["faithful", "corrected"]


class Suppressed(NamedTuple):
    """Result of background suppression.

    fused: F (B, T, d).
    modality_logits: clip logits from each modality alone, averaged (B, K).
    audio_gate, visual_gate: logits (B, T).
    """

    fused: Tensor
    modality_logits: Tensor
    audio_gate: Tensor
    visual_gate: Tensor


class BackgroundSuppression(nn.Module):
    """Background suppression: each modality's gate raises the *other* one's segments.

    g = sigmoid(W memory); V (1 + alpha g_a) and A (1 + alpha g_v). Clip scores of the classes come from each modality alone; then both
    interact.

    Args:
        width: d of a segment.
        labels: K of the scores.
        alpha: strength of the gates.
        top_k: a clip's score of a class is the mean over this many segments.
        heads, attention_dropout, dropout: settings of the interaction.
    """

    def __init__(
        self, width: int, labels: int, *, alpha: float, top_k: int, heads: int, attention_dropout: float, dropout: float
    ) -> None:  # fmt: skip
        super().__init__()
        self.visual_gate = nn.Linear(width, 1)
        self.audio_gate = nn.Linear(width, 1)
        self.visual_scores = nn.Linear(width, labels)
        self.audio_scores = nn.Linear(width, labels)
        self.interaction = MutualInteraction(width, heads, attention_dropout, dropout)
        self.alpha, self.top_k = alpha, top_k

    def forward(self, related: Related, mask: Tensor) -> Suppressed:
        """Both modalities and their memories (B, T, d), (B, T) bool -> :class:`Suppressed`."""
        visual_gate, audio_gate = self.visual_gate(related.visual_memory), self.audio_gate(related.audio_memory)
        visual = related.visual * (1 + self.alpha * audio_gate.sigmoid())
        audio = related.audio * (1 + self.alpha * visual_gate.sigmoid())
        scores = top_k_mean(self.visual_scores(visual), mask, self.top_k) + top_k_mean(self.audio_scores(audio), mask, self.top_k)
        fused = self.interaction(visual, audio, mask)
        return Suppressed(
            fused, at_least_float32(scores / 2), at_least_float32(audio_gate).squeeze(-1), at_least_float32(visual_gate).squeeze(-1)
        )


def gate_loss(audio_gate: Tensor, visual_gate: Tensor, truth: Tensor, form: GateLoss) -> Tensor:
    """Binary cross-entropy, per segment, of the gate sigmoid(audio) * sigmoid(visual) against event (1) or background (0).

    Args:
        audio_gate, visual_gate: logits (B, T).
        truth: (B, T), 0 or 1.
        form: ``faithful``: the product passes a second sigmoid, as released; ``corrected``: the product is the probability.
    """
    if form == "faithful":
        return binary_cross_entropy_with_logits(audio_gate.sigmoid() * visual_gate.sigmoid(), truth, reduction="none")
    open_both = logsigmoid(audio_gate) + logsigmoid(visual_gate)
    # 1 - ab = (1 - a) + a (1 - b), in logs: exact where both gates saturate.
    not_both = torch.logaddexp(logsigmoid(-audio_gate), logsigmoid(audio_gate) + logsigmoid(-visual_gate))
    return -(truth * open_both + (1 - truth) * not_both)
