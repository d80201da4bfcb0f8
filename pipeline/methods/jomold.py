"""JoMoLD: Cheng, Liu, Zhou, Qian, Wu, Wang, "Joint-Modal Label Denoising for Weakly-Supervised Audio-Visual Video Parsing", ECCV 2022.

HAN's network with a contrast of the two streams and label denoising (:mod:`pipeline.methods.shared.denoising`). Published on LLP, segment
level: A 61.3, V 63.8, AV 57.2, Type@AV 60.8, Event@AV 59.9; event level: 53.9, 59.9, 49.6, 54.5, 52.5.

Deliberate differences from the released code: two layer norms that are registered but never used are left out (4,571,723 parameters there,
4,569,675 here); the first network, which estimates the label noise, is trained with the same recipe (its own is unknown) and validated
like the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import AttentivePooling, HybridAttention, ParsingFrontEnd
from pipeline.layers.parsing_losses import stream_contrast
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.shared.anchor import Anchored, AnchorTargets, clip_losses
from pipeline.methods.shared.denoising import DenoisingConfig, DenoisingMethod
from pipeline.methods.shared.parsing import ParsingInputs
from pipeline.tasks.avvp import ParsingScores


class JomoldRecipe(Recipe):
    """Adam 5e-4, divided by 4 every six epochs, 25 epochs, batches of 128.

    Validation picks the epoch with the best audio event F.
    """

    learning_rate: float = Field(5e-4, gt=0)
    milestones: tuple[int, ...] = (6, 12, 18, 24)
    decay: float = Field(0.25, gt=0, le=1)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(25, ge=1)
    selection: str | None = "event/A"


class JomoldConfig(DenoisingConfig):
    """Defaults: the paper's network."""

    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    visual_dropout: float = Field(0.5, ge=0, lt=1, description="of the visual stream before pooling")
    audio_weight: float = Field(2.0, ge=0, description="of the audio loss; all other losses have weight 1")
    cross_attention: bool = Field(True, description="across the modalities, in training and inference")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability in the same modality reaches this")
    recipe: JomoldRecipe = JomoldRecipe()

    @property
    def first(self) -> Self | None:
        if not self.denoise or self.noise_ratios is not None:
            return None
        return self.model_copy(
            update={"denoise": False, "cross_attention": False, "audio_weight": 1.0, "thresholds": "fixed", "given_thresholds": {}}
        )


@METHODS.register("jomold")
class Jomold(DenoisingMethod):
    """HAN with contrast and label denoising.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 4,569,675.
    """

    Config = JomoldConfig
    config: JomoldConfig

    def __init__(
        self, config: JomoldConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.dropout = nn.Dropout(config.visual_dropout)
        self.token_width = config.width
        self.pooling = AttentivePooling(config.width, num_classes)

    @property
    def crosses(self) -> bool:
        return self.config.cross_attention

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {"audio": self.config.audio_weight}

    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        visual, audio, motion, mask = inputs
        audio, visual = self.attention(*self.front_end(visual, audio, motion), mask, cross)
        return Anchored(audio, visual, *self.pooling(audio, self.dropout(visual), mask))

    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, ``contrast``."""
        contrast = stream_contrast(anchored.audio_tokens, anchored.visual_tokens, mask)
        return {**clip_losses(anchored, targets, counted), "contrast": contrast}

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.anchor_forward(self.inputs(batch), self.crosses)
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip_audio, said.clip_visual, self.gates(said.clip, thresholds, thresholds))
