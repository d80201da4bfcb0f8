"""AVDLN: the cross-modality localization network of the AVEL paper.

Tian, Shi, Li, Duan, Xu, "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018.

Each segment's audio and visual features are embedded, phi = Lin LeakyReLU Lin (a visual map enters as its mean). The distance
D = |phi_v - phi_a| is trained with the contrastive loss y D^2 + (1 - y) max(0, 2 - D)^2, where y is whether the segment is an event. Only
the two modalities of the same segment form a pair, never different clips or times, so D learns "this segment contains an event". The
answer is the window whose sum of D, taken segment by segment, is smallest.

Deliberate differences from the released code: training batches are shuffled, and validation picks the epoch (released: the last).
On AVE, always answering the last window scores 46.8 %.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.matching import sums_along
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.methods.base import METHODS, MethodConfig, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.matching import MatchingMethod
from pipeline.tasks.cml import MatchingScores, MatchingTargets

LEAST_SQUARE = 1e-7  # squared distances below this have no gradient


class AvdlnRecipe(Recipe):
    """Adam 1e-3, batches of 8, 20 epochs, as released."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(8, ge=1)
    epochs: int = Field(20, ge=1)


class AvdlnConfig(MethodConfig):
    """Defaults: the released network."""

    hidden: int = Field(128, ge=1, description="width between the two linear maps of each modality")
    width: int = Field(64, ge=1, description="of the shared embedding space")
    slope: float = Field(0.3, ge=0, lt=1, description="of the leaky ReLU")
    margin: float = Field(2.0, gt=0, description="distance beyond which background segments have no loss")
    recipe: AvdlnRecipe = AvdlnRecipe()


@METHODS.register("avdln")
class Avdln(MatchingMethod):
    """Two embeddings and their distance; 98,688 parameters at D_v = 512, D_a = 128."""

    Config = AvdlnConfig
    config: AvdlnConfig

    def __init__(self, config: AvdlnConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.visual, self.audio = (
            nn.Sequential(nn.Linear(width, config.hidden), nn.LeakyReLU(config.slope), nn.Linear(config.hidden, config.width))
            for width in (self.visual_shape[-1], self.audio_shape[0])
        )

    def _embedded(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Embeddings phi_v and phi_a, (B, T, D) each."""
        return at_least_float32(self.visual(inputs.visual.mean(dim=-2))), at_least_float32(self.audio(inputs.audio))

    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """``distance``, equal to ``total``; mean over valid segments."""
        visual, audio = self._embedded(method_inputs(self, batch))
        distance = _length(visual - audio)
        terms = torch.where(targets.event, distance**2, torch.relu(self.config.margin - distance) ** 2)
        loss = masked_mean(terms, batch.mask)
        return {"distance": loss, "total": loss}

    def predict(self, batch: Batch) -> MatchingScores:
        visual, audio = self._embedded(method_inputs(self, batch))
        nearness = -_length(audio.unsqueeze(2) - visual.unsqueeze(1))  # (B, T audio, T visual)
        return MatchingScores(sums_along(nearness), sums_along(nearness.transpose(1, 2)))


def _length(difference: Tensor) -> Tensor:
    """Length sqrt(max(sum of squares, 1e-7)), as released: (..., D) -> (...)."""
    return (difference**2).sum(dim=-1).clamp(min=LEAST_SQUARE).sqrt()
