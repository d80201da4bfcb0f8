"""MA: Wu, Yang, "Exploring Heterogeneous Clues for Weakly-Supervised Audio-Visual Video Parsing", CVPR 2021.

HAN with a contrast between the audio stream after the attention and the visual stream before it; trained twice. The first network learns
from all labels. Then each training clip exchanges a track with a clip of other classes: a label is removed from a modality if the network,
given the clip's own track of that modality and a foreign track of the other, finds the class in neither. The second network learns from the
remaining labels, from scratch. The removed labels (``removed_audio``, ``removed_visual``) are stored with the weights, by annotation row;
published ones can be read from an .npz. Published on LLP, segment level: A 60.3, V 60.0, AV 55.1, Type@AV 58.9, Event@AV 57.9; event level:
53.6, 56.4, 49.0, 53.0, 50.6.

``variant: released`` has two faults of the released code; the default, ``fixed``, does not:

* Released, a label removed from the audio also vanishes from the target of the whole clip, which shares its memory. Fixed, the clip keeps
  it.
* A label is removed where P < 0.5 e, with e the error rate of its class in the modality that loses the label. Released, the probability of
  the own track's modality is compared with the other modality's e. Fixed, both probabilities are compared with the own modality's e.

Deliberate differences from the released code: HAN's unused layers are left out; a clip keeps its labels if no clip of other classes exists
to exchange with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.layers.hybrid_attention import AttentivePooling, HybridAttention, ParsingFrontEnd
from pipeline.layers.parsing_losses import binary_loss, smoothed, smoothed_stream_contrast
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.ma.track_exchange import Exchanged, mistaken, not_shown, unrelated
from pipeline.methods.shared.anchor import weighted_sum
from pipeline.methods.shared.removed_labels import Absent, RefinedConfig, RefinedMethod
from pipeline.tasks.avvp import ParsingScores


class MaRecipe(Recipe):
    """Adam 3e-4, divided by 10 every ten epochs, 12 epochs, batches of 16, as released.

    The last epoch is kept. Both networks use this recipe.
    """

    learning_rate: float = Field(3e-4, gt=0)
    milestones: tuple[int, ...] = (10,)
    decay: float = Field(0.1, gt=0, le=1)
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(12, ge=1)
    selection: str | None = "last"


class MaConfig(RefinedConfig):
    """Defaults: the paper's network, with labels refined without the released code's two faults."""

    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the visual target; the rest is 1/2")
    variant: Literal["fixed", "released"] = Field(
        "fixed", description="fixed: without the released code's two faults | released: with them"
    )
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: MaRecipe = MaRecipe()

    @property
    def first(self) -> Self | None:
        if not self.finds_labels:
            return None
        return self.model_copy(update={"refine": False, "thresholds": "fixed", "given_thresholds": {}})


class TrainingClips(NamedTuple):
    """The training split as input of the attention.

    audio, visual: streams (N, T, D).
    mask: (N, T), bool.
    labels: (N, C), bool.
    rows: annotation rows, (N,), int64.
    """

    audio: Tensor
    visual: Tensor
    mask: Tensor
    labels: Tensor
    rows: Tensor


@METHODS.register("ma")
class Ma(RefinedMethod):
    """HAN with contrast and refined labels.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 4,569,675, as many as HAN.
    """

    Config = MaConfig
    config: MaConfig

    def __init__(
        self, config: MaConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.pooling = AttentivePooling(config.width, num_classes)

    def labels_to_remove(self, batches: Iterable[tuple[Batch, Tensors]]) -> tuple[Tensor, Tensor]:
        """Labels absent from the audio, and from the visual stream, by annotation row: (rows, C) bool each."""
        clips, tables = self.training_clips(batches), []
        for absent in self.absent(clips):
            removed = torch.zeros(int(clips.rows.max()) + 1, self.num_classes, dtype=torch.bool, device=absent.device)
            removed[clips.rows] = absent
            tables.append(removed)
        return tables[0], tables[1]

    def training_clips(self, batches: Iterable[tuple[Batch, Tensors]]) -> TrainingClips:
        """Streams of every clip, to be exchanged before the attention.

        The front end treats each modality separately, so its outputs can be exchanged in place of its inputs.
        """
        parts = []
        for batch, targets in batches:
            inputs, labels = self.inputs(batch), self.labels(targets) > 0.5
            parts.append((*self.front_end(inputs.visual, inputs.audio, inputs.motion), batch.mask, labels, self.rows(targets)))
        return TrainingClips(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def absent(self, clips: TrainingClips) -> tuple[Tensor, Tensor]:
        """Labels absent from the audio, and from the visual stream: (N, C) bool each."""
        own = torch.arange(len(clips.rows), device=clips.rows.device)
        counted, partners = clips.mask.any(dim=1), unrelated(clips.labels, clips.mask)
        plain = self._exchanged(clips, own[counted], own[counted])
        errors = [mistaken(probability, clips.labels[counted]) for probability in plain]
        crossed = self.config.variant == "released"
        exchangeable, result = partners >= 0, []
        for number, (audio, visual) in enumerate(((own, partners), (partners, own))):  # own audio track first, then own visual track
            limits = [errors[number], errors[number]]
            if crossed:
                limits[number] = errors[1 - number]
            absent = torch.zeros_like(clips.labels)
            absent[exchangeable] = not_shown(self._exchanged(clips, audio[exchangeable], visual[exchangeable]), limits)
            result.append(absent & clips.labels)
        return result[0], result[1]

    def _exchanged(self, clips: TrainingClips, audio: Tensor, visual: Tensor) -> Exchanged:
        """Probabilities of mixed clips: audio tracks at some positions (M,), visual tracks at others (M,).

        Only segments valid in both count.
        """
        if not len(audio):
            return Exchanged(*clips.audio.new_zeros(2, 0, self.num_classes))
        parts = []
        for sound, picture in zip(audio.split(self.config.recipe.batch_size), visual.split(self.config.recipe.batch_size), strict=True):
            mask = clips.mask[sound] & clips.mask[picture]
            pooled = self.pooling(*self.attention(clips.audio[sound], clips.visual[picture], mask), mask)
            parts.append((pooled.clip_audio, pooled.clip_visual))
        return Exchanged(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def refined_losses(self, batch: Batch, labels: Tensor, absent: Absent, progress: Progress) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, ``contrast`` and their sum."""
        visual, audio, motion, mask = self.inputs(batch)
        sound, picture = self.front_end(visual, audio, motion)
        audio, visual = self.attention(sound, picture, mask)
        pooled, counted = self.pooling(audio, visual, mask), batch.mask.any(dim=1)
        of_sound, of_picture = self.told(batch, labels)
        terms = {
            "audio": binary_loss(pooled.clip_audio, of_sound.masked_fill(absent.audio, 0.0), counted),
            "visual": binary_loss(
                pooled.clip_visual, smoothed(of_picture, self.config.visual_share).masked_fill(absent.visual, 0.0), counted
            ),
            "clip": binary_loss(
                pooled.clip, labels.masked_fill(absent.audio, 0.0) if self.config.variant == "released" else labels, counted
            ),
            "contrast": smoothed_stream_contrast(audio, picture, batch.mask),
        }
        terms = self.kept_terms(terms) | self.segment_losses(batch, pooled.audio, pooled.visual)
        return {**terms, "total": weighted_sum(terms, self.segment_weights)}

    def predict(self, batch: Batch) -> ParsingScores:
        visual, audio, motion, mask = self.inputs(batch)
        pooled = self.pooling(*self.attention(*self.front_end(visual, audio, motion), mask), mask)
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(pooled.audio, pooled.visual, pooled.clip, pooled.clip, self.gates(pooled.clip, thresholds, thresholds))
