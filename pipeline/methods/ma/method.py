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

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.errors import InputProblems, PipelineError
from pipeline.layers.hybrid_attention import AttentivePooling, HybridAttention, ParsingFrontEnd
from pipeline.layers.parsing_losses import binary_loss, smoothed, smoothed_stream_contrast
from pipeline.methods.base import METHODS, Method, Progress, Recipe
from pipeline.methods.ma.track_exchange import Exchanged, mistaken, not_shown, unrelated
from pipeline.methods.shared.anchor import weighted_sum
from pipeline.methods.shared.parsing import ParsingConfig, ParsingMethod
from pipeline.tasks.avvp import ParsingScores
from pipeline.tasks.labels import VideoTargets

REMOVED = ("removed_audio", "removed_visual")


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


class MaConfig(ParsingConfig):
    """Defaults: the paper's network, with labels refined without the released code's two faults."""

    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the visual target; the rest is 1/2")
    refine: bool = Field(True, description="false: keep all labels and train no network first")
    removed_labels: Path | None = Field(
        None,
        description=".npz with remove_audio and remove_visual, (rows, C) bool each, by annotation row; null: found by a first network",
    )
    variant: Literal["fixed", "released"] = Field(
        "fixed", description="fixed: without the released code's two faults | released: with them"
    )
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: MaRecipe = MaRecipe()

    @property
    def first(self) -> Self | None:
        if not self.refine or self.removed_labels is not None:
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
class Ma(ParsingMethod):
    """HAN with contrast and refined labels.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 4,569,675, as many as HAN.
    """

    Config = MaConfig
    config: MaConfig
    removed_audio: Tensor
    removed_visual: Tensor

    def __init__(
        self, config: MaConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.pooling = AttentivePooling(config.width, num_classes)
        for name in REMOVED:  # resized in prepare to the training split
            self.register_buffer(name, torch.zeros(0, num_classes, dtype=torch.bool))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Resize the removed labels to the stored ones before loading."""
        for name in REMOVED:
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.zeros(stored.shape, dtype=torch.bool, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        """Set the removed labels from the first network or from the published file.

        Raises:
            PipelineError: the file does not contain them.
            InputProblems: the arrays have another form, or remove labels that their clips do not have.
        """
        if not self.config.refine:
            return
        if self.config.removed_labels is not None:
            told = [(self.labels(targets) > 0.5, self._rows(targets)) for _, targets in batches()]
            self._read_removed(self.config.removed_labels, *(torch.cat(part) for part in zip(*told, strict=True)))
        elif isinstance(first, Ma):
            clips = first.training_clips(batches())
            for name, absent in zip(REMOVED, first.absent(clips), strict=True):
                removed = torch.zeros(int(clips.rows.max()) + 1, self.num_classes, dtype=torch.bool, device=absent.device)
                removed[clips.rows] = absent
                setattr(self, name, removed)

    def _read_removed(self, path: Path, labels: Tensor, rows: Tensor) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                removed = [torch.from_numpy(np.asarray(file[name])).to(labels.device) for name in ("remove_audio", "remove_visual")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PipelineError(f"removed_labels: {path}: {error}; an .npz with remove_audio and remove_visual is needed") from None
        problems = []
        for name, table, of_method in zip(("remove_audio", "remove_visual"), removed, REMOVED, strict=True):
            if table.dtype != torch.bool or table.ndim != 2 or table.shape[1] != self.num_classes or len(table) <= int(rows.max()):
                problems.append(
                    f"{name} must be bool, ({int(rows.max()) + 1} annotation rows or more, {self.num_classes} classes), not"
                    f" {table.dtype} {tuple(table.shape)}"
                )
                continue
            if strange := (table[rows] & ~labels).sum(dim=1).nonzero().flatten().tolist():
                problems.append(
                    f"{name} removes labels that {len(strange)} clips do not have, the first in annotation row {int(rows[strange[0]])}:"
                    " it was made for other annotations or for another order of them"
                )
            setattr(self, of_method, table)
        if problems:
            raise InputProblems(f"removed_labels: {path}", problems)

    def training_clips(self, batches: Iterable[tuple[Batch, Tensors]]) -> TrainingClips:
        """Streams of every clip, to be exchanged before the attention.

        The front end treats each modality separately, so its outputs can be exchanged in place of its inputs.
        """
        parts = []
        for batch, targets in batches:
            inputs, labels = self.inputs(batch), self.labels(targets) > 0.5
            parts.append((*self.front_end(inputs.visual, inputs.audio, inputs.motion), batch.mask, labels, self._rows(targets)))
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

    @staticmethod
    def _rows(targets: Tensors) -> Tensor:
        """Annotation rows of the clips, (B,), int64."""
        if not isinstance(targets, VideoTargets) or targets.rows is None:
            raise TypeError("MA with refined labels needs targets with the annotation rows of the clips")
        return targets.rows

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, ``contrast`` and their sum, without the removed labels.

        Raises:
            TypeError: targets other than clip labels, or without annotation rows.
        """
        labels = self.labels(targets)
        if not len(self.removed_audio):
            return self.losses_of_clips(batch, labels, batch.mask.any(dim=1), progress)
        rows = self._rows(targets)
        return self._losses(batch, labels, self.removed_audio[rows], self.removed_visual[rows])

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`losses` with all labels."""
        nothing = torch.zeros_like(labels, dtype=torch.bool)
        return self._losses(batch, labels, nothing, nothing)

    def _losses(self, batch: Batch, labels: Tensor, absent_audio: Tensor, absent_visual: Tensor) -> dict[str, Tensor]:
        visual, audio, motion, mask = self.inputs(batch)
        sound, picture = self.front_end(visual, audio, motion)
        audio, visual = self.attention(sound, picture, mask)
        pooled, counted = self.pooling(audio, visual, mask), batch.mask.any(dim=1)
        of_sound, of_picture = self.told(batch, labels)
        terms = {
            "audio": binary_loss(pooled.clip_audio, of_sound.masked_fill(absent_audio, 0.0), counted),
            "visual": binary_loss(
                pooled.clip_visual, smoothed(of_picture, self.config.visual_share).masked_fill(absent_visual, 0.0), counted
            ),
            "clip": binary_loss(
                pooled.clip, labels.masked_fill(absent_audio, 0.0) if self.config.variant == "released" else labels, counted
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
