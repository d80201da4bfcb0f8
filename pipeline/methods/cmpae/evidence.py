"""CMPAE's evidence for the presence and the absence of each class, as released.

Gao, Chen, Xu, "Collecting Cross-Modal Presence-Absence Evidence for Weakly-Supervised Audio-Visual Event Perception", CVPR 2023.
Shape letters: B batch, T segments, C classes, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.layers.pooling import masked_mean, mean_over_time
from pipeline.layers.precision import at_least_float32

LIMIT, TEMPERATURE, SLOPE = 10.0, 0.8, 0.2  # of the logits; of their exponential; of the leaky ReLUs
LEAST_UNCERTAINTY = 0.9  # lower bound of the clip's uncertainty in the mutual loss


def evidence(logits: Tensor) -> Tensor:
    """Evidence exp(logit / 0.8), with the logit clamped to -10..10."""
    return (at_least_float32(logits).clamp(-LIMIT, LIMIT) / TEMPERATURE).exp()


class Belief(NamedTuple):
    """Outputs for one modality.

    segments: probabilities (B, T, C).
    clip: probabilities (B, C).
    uncertainty: of the clip, (B, C), in (0, 1).
    """

    segments: Tensor
    clip: Tensor
    uncertainty: Tensor


def opinion(presence: Tensor, absence: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of presence and uncertainty: a+ / (a+ + a-) and 2 / (a+ + a-).

    a is the evidence + 1, for presence (+) and absence (-).

    Args:
        presence, absence: logits of one shape.

    Returns:
        Both in that shape.
    """
    positive, negative = evidence(presence) + 1, evidence(absence) + 1
    total = positive + negative
    return positive / total, 2 / total


class EvidencePooling(nn.Module):
    """Presence and absence of each class in each segment, and in the clip by attention over time.

    Presence is read from the modality's own stream x, absence from both modalities, L(x + m(x_a + x_v)), where m is a separate layer for
    each modality. Attention over time, separate for presence and absence, pools the logits; there is no attention over modalities.
    """

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.presence, self.absence = nn.Linear(width, num_classes), nn.Linear(width, num_classes)
        self.over_time = nn.Linear(width, 2 * num_classes)
        self.both_for_audio, self.both_for_visual = (
            nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout), nn.LeakyReLU(SLOPE)) for _ in range(2)
        )

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor) -> tuple[Belief, Belief]:
        """Belief of each modality, at least float32.

        Args:
            audio, visual: (B, T, D) each.
            mask: (B, T), bool, with at least one True per clip.

        Returns:
            audio, visual.
        """
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
    """Classes of the whole clip in either modality: g = L(c(x_a) + c(x_v)), with a shared layer c."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(SLOPE))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Probability and uncertainty of the whole clip.

        Args:
            audio, visual: (B, T, D) each.
            mask: (B, T), bool.

        Returns:
            The mean over time of sigmoid(g), (B, C), and the uncertainty C / sum(evidence + 1) of the mean of g, (B, 1).
        """
        logits = at_least_float32(self.classifier(self.shared(audio) + self.shared(visual)))
        strength = evidence(mean_over_time(logits, mask)) + 1
        return mean_over_time(logits.sigmoid(), mask), logits.shape[-1] / strength.sum(dim=-1, keepdim=True)


def mutual_loss(
    audio: tuple[Tensor, Tensor], visual: tuple[Tensor, Tensor], clip: tuple[Tensor, Tensor], labels: Tensor, counted: Tensor,
    into_clip: bool,
) -> Tensor:  # fmt: skip
    """Mutual learning between the modalities and the whole clip (CMPAE, as released).

    For classes in the clip, the modality with the higher probability is compared with the clip, for other classes the mean of both.

    q [(1 - u_max) (P - sg P_max)^2 y + (1 - u_mean) (P - sg P_mean)^2 (1 - y)] with q = max(u, 0.9) when the clip learns. When the
    modalities learn, the factor is 1 - q instead of q, and the stop-gradient sg applies to P only. Gradients also flow through the
    uncertainties, as released.

    Args:
        audio, visual: probability P^m and uncertainty u^m of each class, (B, C) each.
        clip: P (B, C) and u (B, 1) of the whole clip.
        labels: (B, C) in {0, 1}.
        counted: (B,), bool, clips that count.
        into_clip: True: the clip learns from the modalities; False: the reverse.

    Returns:
        Scalar, mean over the counted clips and all classes; 0 without any.
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
