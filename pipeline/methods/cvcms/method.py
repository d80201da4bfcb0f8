"""CVCMS: "Exploring Cross-Video and Cross-Modality Signals for Weakly-Supervised Audio-Visual Video Parsing", NeurIPS 2021.

By Lin, Tseng, Lee, Lin and Yang. HAN's attention across segments; then every segment has a token per class and modality, and the tokens of
a segment attend to each other and to the other modality's. MMIL pooling. From the third epoch on, a contrast of clips: the audio of one
resembles the visual stream of all that share a class, among the clips of the batch and as many mixtures of one clip's audio with another's
visual stream. Refined labels, found by MA's network trained first or read from an .npz.

Published on LLP, segment level A, V, AV, Type@AV, Event@AV; event level. With refined labels, as DHHN's Table 1 prints it: 60.8, 63.5,
57.0, 60.5, 59.5; 53.8, 58.9, 49.5, 54.0, 52.1. Without (``refine: false``), in CoLeaF's Table 5: 59.2, 59.9, 53.4, 57.5, 58.1; 51.3, 55.5,
46.2, 51.0, 49.7. That the second is without refined labels is inferred from the difference: the released code always has them.

Faults of the released code that are not here:

* It selects the epoch on the test split, which it calls validation, and stores nothing; here the validation split selects.
* Its last batch, if of one clip, searches a second clip forever; here such a batch has no mixtures.
* It stops ten epochs after the last improvement; here all epochs run, and the best is kept.

As released, and perhaps not meant:

* A removed visual label is .05 and not 0 in the first two epochs, for the visual labels are smoothed after the removal; later it is 0.
* The target of the whole clip lacks labels that are removed from both modalities (MA's ``fixed`` keeps all of them).
* Every clip's audio stands in the contrast twice, in its clip and in its mixture, each a candidate of the other.

Deliberate differences: two encoders, thirteen linear layers and two norms that no pass reaches are left out (11,787,087 parameters there,
8,005,940 of them used). Mixtures are formed from the third epoch on only, since nothing uses them before, which changes the random numbers
of dropout; a mixture has the segments that both its clips have. MA's network finds the labels to remove (the authors ship a list of them).
In training the mixtures and the contrast let the other clips of a batch matter; a prediction depends on its clip alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import HybridAttention, ParsingFrontEnd, Pooled, pool
from pipeline.layers.parsing_losses import binary_loss, smoothed
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.cvcms.class_attention import ClassAttention
from pipeline.methods.cvcms.video_contrast import of_classes, other_clips, video_contrast
from pipeline.methods.shared.anchor import weighted_sum
from pipeline.methods.shared.removed_labels import Absent, RefinedByMaConfig, RefinedMethod
from pipeline.tasks.avvp import ParsingScores


class CvcmsRecipe(Recipe):
    """Adam 7e-5, halved every seven epochs, 40 epochs, batches of 64, as released.

    Validation picks the epoch with the best event-level Type@AV.
    """

    learning_rate: float = Field(7e-5, gt=0)
    milestones: tuple[int, ...] = (7, 14, 21, 28, 35)
    decay: float = Field(0.5, gt=0, le=1)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(40, ge=1)
    selection: str | None = "event/Type@AV"


class CvcmsConfig(RefinedByMaConfig):
    """Defaults: the released network, on refined labels."""

    refine: bool = Field(True, description="learn without the labels that MA removes from one modality")
    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention block across segments")
    dropout: float = Field(0.4, ge=0, lt=1, description="in the attention block across segments")
    token_width: int = Field(128, ge=1, description="of a class's token in a segment")
    token_feedforward: int = Field(128, ge=1, description="hidden width in the attention block across classes")
    token_dropout: float = Field(0.25, ge=0, lt=1, description="in the attention block across classes")
    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the first epochs' visual target; the rest is 1/2")
    smoothed_epochs: int = Field(2, ge=0, description="first epochs, with smoothed visual labels and without the contrast")
    contrast_weight: float = Field(0.85, ge=0, description="of the contrast of clips; all other losses have weight 1")
    temperature: float = Field(1.0, gt=0, description="of the contrast of clips")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: CvcmsRecipe = CvcmsRecipe()


@METHODS.register("cvcms")
class Cvcms(RefinedMethod):
    """Attention across segments and across classes, with a contrast of clips.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 8,005,940.
    """

    Config = CvcmsConfig
    config: CvcmsConfig

    def __init__(
        self, config: CvcmsConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.classes = ClassAttention(config.width, num_classes, config.token_width, config.token_feedforward, config.token_dropout)
        self.over_time, self.over_modalities = (nn.Linear(config.width, num_classes) for _ in range(2))

    def parsed(self, audio: Tensor, visual: Tensor, mask: Tensor) -> Pooled:
        """Probabilities from the streams after the attention across segments, (B, T, D) each."""
        both = torch.stack([audio, visual], dim=2)
        return pool(self.classes(audio, visual), self.over_time(both), self.over_modalities(both), mask)

    def phase(self, progress: Progress) -> Hashable:
        return self.compares(progress)

    def compares(self, progress: Progress) -> bool:
        """Whether the contrast has begun, and the smoothing of visual labels ended."""
        return progress.epoch >= self.config.smoothed_epochs

    def refined_losses(self, batch: Batch, labels: Tensor, absent: Absent, progress: Progress) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, then also ``contrast``, and their weighted sum."""
        visual, audio, motion, mask = self.inputs(batch)
        sound, picture = self.front_end(visual, audio, motion)
        audio, visual = self.attention(sound, picture, mask)
        said, counted = self.parsed(audio, visual, mask), batch.mask.any(dim=1)
        of_sound, of_picture = (told.masked_fill(gone, 0.0) for told, gone in zip(self.told(batch, labels), absent, strict=True))
        share = 1.0 if self.compares(progress) else self.config.visual_share
        terms = self.kept_terms({
            "audio": binary_loss(said.clip_audio, of_sound, counted),
            "visual": binary_loss(said.clip_visual, smoothed(of_picture, share), counted),
            "clip": binary_loss(said.clip, labels.masked_fill(absent.audio & absent.visual, 0.0), counted),
        })  # fmt: skip
        terms |= self.segment_losses(batch, said.audio, said.visual)
        if self.compares(progress):
            audios, visuals, masks, partners = [audio], [visual], [batch.mask], [torch.arange(len(labels), device=labels.device)]
            if len(labels) > 1:
                partners.append(other_clips(len(labels), labels.device))
                masks.append(batch.mask & batch.mask[partners[1]])
                mixed = self.attention(sound, picture[partners[1]], masks[1] | ~masks[1].any(dim=1, keepdim=True))
                audios.append(mixed[0])
                visuals.append(mixed[1])
            told = of_sound.repeat(len(partners), 1), of_picture[torch.cat(partners)]
            terms["contrast"] = self._contrast(torch.cat(audios), torch.cat(visuals), *told, torch.cat(masks))
        return {**terms, "total": weighted_sum(terms, {"contrast": self.config.contrast_weight, **self.segment_weights})}

    def _contrast(self, audio: Tensor, visual: Tensor, of_sound: Tensor, of_picture: Tensor, mask: Tensor) -> Tensor:
        """Of N clips and mixtures; streams (N, T, D), labels of their tracks (N, C), valid segments (N, T)."""
        counted = mask.any(dim=1)
        some = mask | ~counted.unsqueeze(1)
        sound, picture = (
            of_classes(stream, self.over_time(stream), told, some) for stream, told in ((audio, of_sound), (visual, of_picture))
        )
        return video_contrast(sound, picture, of_sound, of_picture, counted, self.config.temperature)

    def predict(self, batch: Batch) -> ParsingScores:
        visual, audio, motion, mask = self.inputs(batch)
        audio, visual = self.attention(*self.front_end(visual, audio, motion), mask)
        said = self.parsed(audio, visual, mask)
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip, said.clip, self.gates(said.clip, thresholds, thresholds))
