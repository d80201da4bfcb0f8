"""VALOR: Lai, Chen, Wang, "Modality-Independent Teachers Meet Weakly-Supervised Audio-Visual Event Parser", NeurIPS 2023, as released.

HAN with wider feed-forward blocks and eight heads, learned from the clip's labels and from labels of segments that CLIP and CLAP guess,
each for its own modality (``pseudo_labels``). VALOR has one layer of width 512, VALOR+ four of width 256, and VALOR++ is VALOR+ on features
of CLIP and CLAP beside R(2+1)D. Published on LLP, segment level (A, V, AV, Type@AV, Event@AV) and event level:
VALOR 61.8, 65.9, 58.4, 62.0, 61.5 and 55.4, 62.6, 52.2, 56.7, 54.2; VALOR++ 68.1, 68.4, 61.9, 66.2, 66.8 and 61.2, 64.7, 55.5, 60.4, 59.0.
The clip's true labels with Speech never seen score a Type@AV of 70.0 and 61.4.

Loss: cross-entropy of the clip's probability in either modality, and of the segments of each modality, all weights 1. The clip's audio and
visual probabilities are not trained by themselves (``clip_modality_losses``), and no label is smoothed.

Of the released code, and followed here: a layer updates the streams one after the other, so that the visual stream attends to the audio
stream's output, where HAN's attends to its input (``order``); the learning rate counts epochs from 1.

Deliberate differences from the released code:

* A norm of its encoder that is never used is left out (5,096,523, 5,052,235 and 4,888,395 parameters there).
* The layers of an encoder start from different weights; there from copies of one.
* Segments' probabilities are clamped 1e-7 from 0 and 1 in the loss, as those of clips; there the loss is taken of the logits.
* The eight frames of a segment are averaged before their linear layer, and CLAP's maps become seconds when the features are imported, also
  before theirs (equal up to rounding).
* With ``clip_modality_losses: true``, each modality's target is the largest of its segment labels, LEAP's rule (:meth:`told`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import AttentivePooling, HybridEncoder, Order, ParsingFrontEnd
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Betas, Progress, Recipe
from pipeline.methods.shared.anchor import Anchored, AnchorMethod, AnchorTargets, clip_losses
from pipeline.methods.shared.parsing import ParsingConfig, ParsingInputs, PseudoLabels
from pipeline.tasks.avvp import ParsingScores


class ValorRecipe(Recipe):
    """AdamW 1e-4, ten epochs of warm-up and a cosine to 1e-6 after 60, batches of 64, as released."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    betas: Betas = (0.5, 0.999)
    weight_decay: float = Field(1e-3, ge=0, le=10)
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["milestones", "cosine", "warmup_cosine"] = "warmup_cosine"
    warmup_epochs: float = Field(10.0, ge=0)
    minimum: float = Field(1e-6, ge=0)
    clip_norm: float | None = Field(1.0, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(60, ge=1)


class ValorPlusRecipe(ValorRecipe):
    """As VALOR's, from 3e-4 to 3e-6."""

    learning_rate: float = Field(3e-4, gt=0)
    minimum: float = Field(3e-6, ge=0)


class ValorConfig(ParsingConfig):
    """Defaults: the released VALOR."""

    pseudo_labels: PseudoLabels | None = PseudoLabels(audio="audio_labels", visual="visual_labels")
    clip_modality_losses: bool = False
    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    layers: int = Field(1, ge=1, le=100, description="of the encoder")
    heads: int = Field(8, ge=1, description="of each attention; they divide the width")
    feedforward: int = Field(1024, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    order: Order = Field("sequential", description="sequential: the visual stream attends to the audio stream's output | parallel: as HAN")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: ValorRecipe = ValorRecipe()

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self


class ValorPlusConfig(ValorConfig):
    """Defaults: the released VALOR+."""

    width: int = Field(256, ge=1, description="of both modalities' features in the attention")
    layers: int = Field(4, ge=1, le=100, description="of the encoder")
    recipe: ValorPlusRecipe = ValorPlusRecipe()


class ValorPlusPlusConfig(ValorPlusConfig):
    """Defaults: the released VALOR++, for features of CLIP (visual), CLAP (audio) and R(2+1)D (motion)."""


@METHODS.register("valor")
class Valor(AnchorMethod):
    """Hybrid attention with eight heads, trained on labels of segments.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 5,094,475.
    """

    Config = ValorConfig
    config: ValorConfig

    def __init__(
        self, config: ValorConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = self._new_front_end()
        self.encoder = HybridEncoder(config.width, config.layers, config.heads, config.feedforward, config.dropout, config.order)
        self.token_width = config.width
        self.pooling = AttentivePooling(config.width, num_classes)

    def _new_front_end(self) -> nn.Module:
        return ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, self.config.width)

    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        visual, audio, motion, mask = inputs
        audio, visual = self.encoder(*self.front_end(visual, audio, motion), mask, cross)
        return Anchored(audio, visual, *self.pooling(audio, visual, mask))

    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """The labels as they are."""
        return told

    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``."""
        return clip_losses(anchored, targets, counted)

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.anchor_forward(self.inputs(batch))
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip, said.clip, self.gates(said.clip, thresholds, thresholds))


@METHODS.register("valor_plus")
class ValorPlus(Valor):
    """VALOR with four narrower layers.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 5,051,211.
    """

    Config = ValorPlusConfig
    config: ValorPlusConfig


@METHODS.register("valor_plus_plus")
class ValorPlusPlus(ValorPlus):
    """VALOR+ on features of CLIP and CLAP.

    Parameters at 768, 768 and a motion stream of 512, C = 25: 4,887,371.
    """

    Config = ValorPlusPlusConfig
    config: ValorPlusPlusConfig
