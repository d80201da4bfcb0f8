"""Evidence that a class is there and evidence that it is not: Gao, Chen, Xu, "Collecting Cross-Modal Presence-Absence Evidence for
Weakly-Supervised Audio-Visual Event Perception" (CMPAE), CVPR 2023, as released.

B batch, T segments, C classes, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.layers.pooling import masked_mean, mean_over_time
from pipeline.layers.precision import at_least_float32

LIMIT, TEMPERATURE, SLOPE = 10.0, 0.8, 0.2  # of the logits; of their exponential; of the leaky ReLUs
LEAST_UNCERTAINTY = 0.9  # of the clip, in the mutual loss


def evidence(logits: Tensor) -> Tensor:
    """exp(logit / 0.8), the logit kept within -10..10."""
    return (at_least_float32(logits).clamp(-LIMIT, LIMIT) / TEMPERATURE).exp()


class Belief(NamedTuple):
    """Of one modality: probabilities of its segments (B, T, C) and of the clip (B, C), and the clip's uncertainty (B, C) in (0, 1)."""

    segments: Tensor
    clip: Tensor
    uncertainty: Tensor


def opinion(presence: Tensor, absence: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the two -> (probability of presence, uncertainty): a+ / (a+ + a-) and 2 / (a+ + a-) with a = evidence + 1."""
    positive, negative = evidence(presence) + 1, evidence(absence) + 1
    total = positive + negative
    return positive / total, 2 / total


class EvidencePooling(nn.Module):
    """Presence and absence of each class in each segment, and in the clip by attention over time.

    Presence is read from the modality's own stream x; absence from x and what both modalities have, L(x + m(x_a + x_v)), m a layer of its
    own for each modality. Attention over time, one for presence and one for absence, pools the logits; there is none over modalities.
    """

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.presence, self.absence = nn.Linear(width, num_classes), nn.Linear(width, num_classes)
        self.over_time = nn.Linear(width, 2 * num_classes)
        self.both_for_audio, self.both_for_visual = (
            nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout), nn.LeakyReLU(SLOPE)) for _ in range(2)
        )

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor) -> tuple[Belief, Belief]:
        """(B, T, D), (B, T, D), (B, T) bool with at least one True a clip -> audio, visual; in float32 at least."""
        both = audio + visual
        return self._belief(audio, self.both_for_audio(both), mask), self._belief(visual, self.both_for_visual(both), mask)

    def _belief(self, stream: Tensor, context: Tensor, mask: Tensor) -> Belief:
        logits = torch.stack([self.presence(stream), self.absence(stream + context)], dim=-1)  # (B, T, C, 2)
        logits = at_least_float32(logits)
        attention = at_least_float32(self.over_time(stream)).unflatten(-1, (-1, 2))
        attention = attention.masked_fill(~mask[:, :, None, None], float("-inf")).softmax(dim=1)
        pooled = (attention * logits).sum(dim=1)
        segments, _ = opinion(*logits.unbind(dim=-1))
        return Belief(segments, *opinion(*pooled.unbind(dim=-1)))


class GlobalEvidence(nn.Module):
    """What the clip has in either modality, from both streams: g = L(c(x_a) + c(x_v)), c a layer that they share."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(SLOPE))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> the mean over time of sigmoid(g), (B, C), and the uncertainty C / sum(evidence + 1) of the
        mean of g, (B, 1)."""
        logits = at_least_float32(self.classifier(self.shared(audio) + self.shared(visual)))
        strength = evidence(mean_over_time(logits, mask)) + 1
        return mean_over_time(logits.sigmoid(), mask), logits.shape[-1] / strength.sum(dim=-1, keepdim=True)


def mutual_loss(
    audio: tuple[Tensor, Tensor], visual: tuple[Tensor, Tensor], clip: tuple[Tensor, Tensor], labels: Tensor, counted: Tensor,
    into_clip: bool,
) -> Tensor:  # fmt: skip
    """The modalities and the whole clip learn of each other (CMPAE, as released): where the clip has the class, of the modality that is
    surer of it, elsewhere of the mean of the two.

    q [(1 - u_max) (P - sg P_max)^2 y + (1 - u_mean) (P - sg P_mean)^2 (1 - y)] with q = max(u, 0.9) where the clip learns; with 1 - q for
    q, and sg about P alone, where the modalities do. Uncertainties pass gradients too, as released.

    Args:
        audio, visual: probability P^m and uncertainty u^m of each class, (B, C) each.
        clip: P (B, C) and u (B, 1) of the whole clip.
        labels: (B, C) in {0, 1}; counted: (B,), bool, clips that count.
        into_clip: whether the clip learns of the modalities, or they of it.

    Returns:
        Scalar, mean over the clips that count and all classes; 0 where none counts.
    """
    p, u = (torch.stack(pair) for pair in zip(audio, visual, strict=True))  # (2, B, C) each
    p_max, surer = p.max(dim=0)
    u_max, p_mean, u_mean = u.gather(0, surer.unsqueeze(0))[0], p.mean(dim=0), u.mean(dim=0)
    whole, share = clip[0], clip[1].clamp(min=LEAST_UNCERTAINTY)
    if into_clip:
        p_max, p_mean = p_max.detach(), p_mean.detach()
    else:
        whole, share = whole.detach(), 1 - share
    terms = (1 - u_max) * (whole - p_max) ** 2 * labels + (1 - u_mean) * (whole - p_mean) ** 2 * (1 - labels)
    return masked_mean(share * terms, counted.unsqueeze(1).expand_as(terms))
