"""AVEL: Tian, Shi, Li, Duan, Xu, "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018: the baseline of the task.

Audio-guided attention over the visual map, one BiLSTM per modality, late concatenation, and a softmax over C classes and
background for each segment. Published on AVE, supervised: audio 59.5, visual 55.3, both with attention 72.7 % of segments.

Where this differs from the released code, deliberately: training batches are shuffled (released: stored order, which is sorted by class,
the last 11 clips never used), the learning rate is not cut at iteration 15,000 (epoch 288 of 300), and ``net.train()`` is restored after
validation (there: never; without dropout it does not matter).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.base import METHODS, AvelTargets, Batch, Method, MethodConfig, Progress, Recipe, Scores
from pipeline.methods.inputs import Inputs, method_inputs, positions


class AvelRecipe(Recipe):
    """Adam 1e-3, batches of 64, 300 epochs, as released."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(300, ge=1)


class AvelConfig(MethodConfig):
    """Defaults are the paper's network; narrow ones suit small data."""

    modality: Literal["both", "audio", "visual"] = Field("both", description="visual alone: the map's mean, for there is no audio to guide")
    variant: Literal["paper", "released"] = Field(
        "paper", description="loss: cross-entropy (paper) | multi-label soft margin on softmax probabilities (released; nearly flat)"
    )
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    recurrent_width: int = Field(128, ge=1, description="of one direction of each BiLSTM")
    classifier_width: int = Field(64, ge=1)
    recipe: AvelRecipe = AvelRecipe()


@METHODS.register("avel")
class Avel(Method):
    """The A+V-att network, or one modality of it.

    ``variant: paper`` (default) trains with the multi-class cross-entropy that the paper states; ``released`` with the code's
    MultiLabelSoftMarginLoss fed with probabilities, which moves only between about 0.71 and 0.68 for C = 28 and learns slowly.
    """

    tasks = frozenset({"avel"})
    Config = AvelConfig
    config: AvelConfig

    def __init__(self, config: AvelConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual_width, audio_width = self.visual_shape[-1], self.audio_shape[0]
        recurrent_width = 2 * config.recurrent_width
        modalities = 2 if config.modality == "both" else 1
        self.attention: AudioGuidedSpatialAttention | None = None
        if config.modality == "both":
            self.attention = AudioGuidedSpatialAttention(visual_width, audio_width, positions(self.visual_shape), config.attention_width)
        if config.modality != "visual":
            self.audio_lstm = SegmentLSTM(audio_width, recurrent_width)
        if config.modality != "audio":
            self.visual_lstm = SegmentLSTM(visual_width, recurrent_width)
        self.classifier = nn.Sequential(
            nn.Linear(modalities * recurrent_width, config.classifier_width), nn.ReLU(), nn.Linear(config.classifier_width, num_classes + 1)
        )
        for block in filter(None, (self.attention, self.classifier)):
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)

    def _logits(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Segment logits (B, T, C+1) and attention weights (B, T, S) or None."""
        visual, audio, mask = inputs
        weights = None
        hidden = []
        if self.config.modality != "visual":
            hidden.append(self.audio_lstm(audio, mask))
        if self.config.modality != "audio":
            if self.attention is None:
                attended = visual.mean(dim=-2)
            else:
                attended, weights = self.attention(visual, audio)
            hidden.append(self.visual_lstm(attended, mask))
        return at_least_float32(self.classifier(torch.relu(torch.cat(hidden, dim=-1)))), weights

    def losses(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``segments``, which is also ``total``; mean over valid segments."""
        logits, _ = self._logits(method_inputs(self, batch))
        if self.config.variant == "paper":
            terms = cross_entropy(logits.movedim(-1, 1), targets.segments, reduction="none")
        else:
            truth = one_hot(targets.segments, self.num_classes + 1).to(logits.dtype)
            terms = binary_cross_entropy_with_logits(logits.softmax(dim=-1), truth, reduction="none").mean(dim=-1)
        loss = masked_mean(terms, batch.mask)
        return {"segments": loss, "total": loss}

    def predict(self, batch: Batch) -> Scores:
        logits, weights = self._logits(method_inputs(self, batch))
        return Scores(segments=logits.softmax(dim=-1), attention=None if weights is None else at_least_float32(weights))
