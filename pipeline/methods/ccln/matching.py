"""CCLN-style matching for cross-modality localization.

CCLN's abstract (:mod:`pipeline.methods.ccln.method`) only states that the network also does "Cross-Modal Localization (CML) tasks". The
design is ours, and no result of it is the paper's.

The given window is known in one modality only, so the backbone's guidance and interaction have nothing to work on; the branch remains.
Each modality's segments are embedded (Lin ReLU Lin). A window is the mean psi of its embeddings; self-attention within the searched
modality turns its embeddings into f_t. Following SBI, a gate from the fused signal scales their correlation:
logit_t = sigmoid(w ReLU(W_p psi + W_f f_t)) k cos(psi, f_t) + b, the logit of segment t belonging to the event. ``gated: false`` leaves the
gate out.

Losses: binary cross-entropy with the event's segments in both directions; FEE on each modality's f; WCCL between the event's psi of both
modalities. A map enters as its mean. A window's score is the sum of its logits.

In training the window is the clip's event; clips without an event do not contribute.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from pipeline.batch import Batch
from pipeline.layers.matching import sums_over_windows, windows
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import IntraModalRelation, check_heads
from pipeline.methods.base import METHODS, MethodConfig, Recipe
from pipeline.methods.ccln.foreground_enhancement import foreground_enhancement
from pipeline.methods.ccln.video_contrast import video_contrast
from pipeline.methods.shared.inputs import method_inputs
from pipeline.methods.shared.matching import MatchingMethod
from pipeline.tasks.cml import MatchingScores, MatchingTargets


class CclnMatchingRecipe(Recipe):
    """Adam 7e-4, batches of 64, 60 epochs, gradient norm at most 0.5; our choice."""

    learning_rate: float = Field(7e-4, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(60, ge=1)
    clip_norm: float | None = Field(0.5, gt=0)


class CclnMatchingConfig(MethodConfig):
    """All settings are our choice; margin, temperatures and weights as in ``ccln``."""

    gated: bool = Field(True, description="gate the correlation, after SBI")
    foreground_enhancement: bool = Field(True, description="FEE")
    foreground_weight: float = Field(0.5, ge=0, description="of the foreground enhancement's loss")
    foreground_margin: float = Field(1.0, gt=0, le=2, description="of the foreground enhancement")
    foreground_temperature: float = Field(0.2, ge=1e-4, le=1000, description="of the foreground enhancement")
    foreground_reach: float = Field(2.0, gt=0, description="of the foreground enhancement")
    contrast: bool = Field(True, description="WCCL")
    contrast_weight: float = Field(0.5, ge=0, description="of the contrast's loss")
    contrast_temperature: float = Field(0.1, ge=1e-4, le=1000, description="of the contrast")
    width: int = Field(128, ge=1, description="of the embeddings")
    heads: int = Field(4, ge=1, description="of the attention")
    feedforward: int = Field(256, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    recipe: CclnMatchingRecipe = CclnMatchingRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self


class Direction(nn.Module):
    """Logits from the given modality's windows psi and the searched modality's segments f."""

    def __init__(self, width: int, gated: bool) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.tensor(5.0)), nn.Parameter(torch.tensor(0.0))
        self.gate = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)]) if gated else None

    def forward(self, asking: Tensor, searched: Tensor) -> Tensor:
        """Logit of each window and segment: (B, Q, D), (B, T, D) -> (B, Q, T)."""
        correlation = normalize(asking, dim=-1) @ normalize(searched, dim=-1).transpose(1, 2)
        if self.gate is not None:
            of_window, of_segment, score = self.gate
            fused = torch.relu(of_window(asking).unsqueeze(2) + of_segment(searched).unsqueeze(1))
            correlation = correlation * torch.sigmoid(score(fused)).squeeze(-1)
        return at_least_float32(self.scale * correlation + self.bias)


class Modality(nn.Module):
    """Embeddings of one modality's segments, before and after self-attention."""

    def __init__(self, input_width: int, config: CclnMatchingConfig) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(input_width, config.width), nn.ReLU(), nn.Linear(config.width, config.width))
        self.relate = IntraModalRelation(config.width, config.width, config.heads, config.feedforward, dropout=config.dropout)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the segments: (B, T, D_in), (B, T) bool -> embeddings and f, (B, T, D) each."""
        embedded = self.embed(features)
        return embedded, self.relate(embedded, mask)


@METHODS.register("ccln_matching")
class CclnMatching(MatchingMethod):
    """Embeddings of both modalities and both directions of the search."""

    Config = CclnMatchingConfig
    config: CclnMatchingConfig

    def __init__(self, config: CclnMatchingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.visual, self.audio = Modality(self.visual_shape[-1], config), Modality(self.audio_shape[0], config)
        self.audio_to_visual, self.visual_to_audio = (Direction(config.width, config.gated) for _ in range(2))

    def _encoded(self, batch: Batch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Embeddings and f of the visual and of the audio modality."""
        inputs = method_inputs(self, batch)
        return self.visual(inputs.visual.mean(dim=-2), inputs.mask), self.audio(inputs.audio, inputs.mask)

    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """``a2v`` + ``v2a`` + foreground_weight * ``foreground`` + contrast_weight * ``contrast``.

        Each is a mean over valid segments or over clips.
        """
        (visual, searched_visual), (audio, searched_audio) = self._encoded(batch)
        event = targets.event & batch.mask
        eventful = event.any(dim=1, keepdim=True)
        visual_event, audio_event = (window_means(x, event.unsqueeze(1)) for x in (visual, audio))  # (B, 1, D)
        logits = {
            "a2v": self.audio_to_visual(audio_event, searched_visual).squeeze(1),
            "v2a": self.visual_to_audio(visual_event, searched_audio).squeeze(1),
        }
        terms = {
            name: masked_mean(binary_cross_entropy_with_logits(x, event.to(x.dtype), reduction="none"), batch.mask & eventful)
            for name, x in logits.items()
        }
        config, total = self.config, torch.stack(list(terms.values())).sum()
        if config.foreground_enhancement:
            settings = {
                "margin": config.foreground_margin, "temperature": config.foreground_temperature, "reach": config.foreground_reach,
            }  # fmt: skip
            both = [foreground_enhancement(x, event, batch.mask, **settings) for x in (searched_visual, searched_audio)]
            terms["foreground"] = torch.stack(both).mean()
            total = total + config.foreground_weight * terms["foreground"]
        if config.contrast:
            terms["contrast"] = video_contrast(
                visual_event.squeeze(1), audio_event.squeeze(1), targets.labels, eventful.squeeze(1), config.contrast_temperature
            )
            total = total + config.contrast_weight * terms["contrast"]
        return {**terms, "total": total}

    def predict(self, batch: Batch) -> MatchingScores:
        (visual, searched_visual), (audio, searched_audio) = self._encoded(batch)
        return MatchingScores(
            self._all_windows(self.audio_to_visual, audio, searched_visual), self._all_windows(self.visual_to_audio, visual, searched_audio)
        )

    def _all_windows(self, direction: Direction, given: Tensor, searched: Tensor) -> Tensor:
        """Score of every window of the given modality with every window of the other: (B, L, T, T)."""
        segments = given.shape[1]
        asking = window_means(given, windows(segments, given.device).flatten(0, 1).expand(len(given), -1, -1))
        return sums_over_windows(direction(asking, searched).unflatten(1, (segments, segments)))


def window_means(features: Tensor, window: Tensor) -> Tensor:
    """Mean feature of each window: (B, T, D), (B, Q, T) bool -> (B, Q, D); zero if empty."""
    return window.to(features.dtype) @ features / window.sum(dim=-1, keepdim=True).clamp(min=1)
