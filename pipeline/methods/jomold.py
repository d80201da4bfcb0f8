"""JoMoLD: Cheng, Liu, Zhou, Qian, Wu, Wang, "Joint-Modal Label Denoising for Weakly-Supervised Audio-Visual Video Parsing", ECCV 2022.

HAN's network with a contrast of the two streams, trained on labels of which, batch by batch, those are removed from one modality that it
seems not to show. How many do not, class by class, is estimated by a network trained first, without attention across the modalities
(``noise_heard`` and ``noise_seen``, stored with the weights; published ones can be read from ``noise_ratios.npz``). Published on
LLP, segment level: A 61.3, V 63.8, AV 57.2, Type@AV 60.8, Event@AV 59.9; event level: 53.9, 59.9, 49.6, 54.5, 52.5.

The released warm-up of the ratios over 0.9 epochs comes out as nothing in the first epoch and everything from the second on (the ratio is
multiplied into itself, starting with 0); so it is here. Where this differs from the released code, deliberately: two layer norms that are
registered and never used do not exist here (4,571,723 parameters there, 4,569,675 here); the first network is trained by the same recipe
(its own is not known) and validated like the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.layers.hybrid_attention import AttentivePooling, HybridAttention, ParsingFrontEnd, Pooled
from pipeline.layers.label_denoising import absent_labels, noise_ratio
from pipeline.layers.parsing_losses import binary_loss, binary_terms, smoothed, stream_contrast
from pipeline.methods.base import METHODS, Batch, Method, ParsingScores, Progress, Recipe, Targets
from pipeline.methods.parsing import ParsingConfig, ParsingInputs, ParsingMethod


class JomoldRecipe(Recipe):
    """Adam 5e-4, a quarter of it every six epochs, 25 epochs, batches of 128, the epoch of the best audio event F on validation."""

    learning_rate: float = Field(5e-4, gt=0)
    milestones: tuple[int, ...] = (6, 12, 18, 24)
    decay: float = Field(0.25, gt=0, le=1)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(25, ge=1)
    selection: str | None = "event/A"


class JomoldConfig(ParsingConfig):
    """Defaults are the paper's network."""

    width: int = Field(512, ge=1)
    feedforward: int = Field(512, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    seen_dropout: float = Field(0.5, ge=0, lt=1, description="of the visual stream before pooling")
    seen_share: float = Field(0.9, ge=0, le=1, description="of the label in the target of what is seen, the rest being 1/2")
    heard_weight: float = Field(2.0, ge=0, description="of the loss of what is heard; all others have 1")
    cross_attention: bool = Field(True, description="across the modalities, in training and inference")
    denoise: bool = Field(True, description="false: all labels stay; no network is trained first")
    noise_ratios: Path | None = Field(
        None, description=".npz with audio and visual, (C,) each, as published; null: estimated by a first network"
    )
    heard_threshold: float = Field(
        0.6, gt=0, description="a label is noise in what is heard where its probability over the class's mean is below"
    )
    seen_threshold: float = Field(1.8, gt=0, description="the same of what is seen")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is on in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and if it is so in the clip, of the same modality, from this one on")
    recipe: JomoldRecipe = JomoldRecipe()

    @property
    def first(self) -> Self | None:
        if not self.denoise or self.noise_ratios is not None:
            return None
        return self.model_copy(update={"denoise": False, "cross_attention": False, "heard_weight": 1.0, "thresholds": "fixed"})


@METHODS.register("jomold")
class Jomold(ParsingMethod):
    """HAN with contrast and label denoising. Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 4,569,675."""

    Config = JomoldConfig
    config: JomoldConfig
    noise_heard: Tensor
    noise_seen: Tensor

    def __init__(
        self, config: JomoldConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.dropout = nn.Dropout(config.seen_dropout)
        self.pooling = AttentivePooling(config.width, num_classes)
        for name in ("noise_heard", "noise_seen"):
            self.register_buffer(name, torch.zeros(num_classes))

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Targets]]]) -> None:
        """Set the noise ratios, from the first network or from the published file.

        Raises:
            PipelineError: a file that does not hold them.
        """
        if self.config.noise_ratios is not None and self.config.denoise:
            self._read_ratios(self.config.noise_ratios)
        elif isinstance(first, Jomold):
            heard, seen = [], []
            for batch, targets in batches():
                pooled, counted = first._forward(first.inputs(batch), cross=False)[0], batch.mask.any(dim=1)
                heard_labels, seen_labels = (of_sense[counted] for of_sense in self.told(batch, self.labels(targets)))
                heard.append((pooled.clip_heard[counted], heard_labels, heard_labels))
                seen.append((pooled.clip_seen[counted], smoothed(seen_labels, self.config.seen_share), seen_labels))
            self.noise_heard.copy_(noise_ratio(heard, self.config.heard_threshold))
            self.noise_seen.copy_(noise_ratio(seen, self.config.seen_threshold))

    def _read_ratios(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                ratios = {name: np.asarray(file[name], dtype=np.float64) for name in ("audio", "visual")}
        except (OSError, ValueError, KeyError) as error:
            raise PipelineError(f"noise_ratios: {path}: {error}; an .npz with the arrays audio and visual is needed") from None
        for (name, values), buffer in zip(ratios.items(), (self.noise_heard, self.noise_seen), strict=True):
            if values.shape != buffer.shape or not ((values >= 0) & (values <= 1)).all():
                raise PipelineError(
                    f"noise_ratios: {path}: {name} must be {len(buffer)} shares in 0..1, one a class (here: {values.shape})"
                )
            buffer.copy_(torch.from_numpy(values))

    def _forward(self, inputs: ParsingInputs, cross: bool) -> tuple[Pooled, Tensor, Tensor]:
        """What is said of the segments and clips, and the two streams behind the attention."""
        visual, audio, motion, mask = inputs
        heard, seen = self.attention(*self.front_end(visual, audio, motion), mask, cross)
        return self.pooling(heard, self.dropout(seen), mask), heard, seen

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """``heard``, ``seen``, ``clip``, ``contrast``, those of pseudo-labels, and their weighted sum."""
        inputs, (heard_labels, seen_labels) = self.inputs(batch), self.told(batch, labels)
        heard_target, seen_target = heard_labels, smoothed(seen_labels, self.config.seen_share)
        if self.config.denoise and progress.epoch > 0:
            not_heard, not_seen = self._absent(inputs, heard_labels, seen_labels, counted)
            heard_target, seen_target = heard_target.masked_fill(not_heard, 0.0), seen_target.masked_fill(not_seen, 0.0)
        pooled, heard, seen = self._forward(inputs, self.config.cross_attention)
        terms = {
            "heard": binary_loss(pooled.clip_heard, heard_target, counted),
            "seen": binary_loss(pooled.clip_seen, seen_target, counted),
            "clip": binary_loss(pooled.clip, labels, counted),
            "contrast": stream_contrast(heard, seen, batch.mask),
        }
        guessed = self.segment_losses(batch, pooled.heard, pooled.seen)
        total = self.config.heard_weight * terms["heard"] + terms["seen"] + terms["clip"] + terms["contrast"]
        return {**terms, **guessed, "total": sum(guessed.values(), start=total)}

    @torch.no_grad()
    def _absent(self, inputs: ParsingInputs, heard: Tensor, seen: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Labels to remove from what is heard and what is seen: (B, C) bool each. In train mode, dropout included, as released."""
        pooled = self._forward(inputs, cross=False)[0]
        heard_terms = binary_terms(pooled.clip_heard, heard)
        seen_terms = binary_terms(pooled.clip_seen, smoothed(seen, self.config.seen_share))
        return (
            absent_labels(heard_terms, seen_terms, (heard > 0.5) & counted.unsqueeze(1), self.noise_heard),
            absent_labels(seen_terms, heard_terms, (seen > 0.5) & counted.unsqueeze(1), self.noise_seen),
        )

    def predict(self, batch: Batch) -> ParsingScores:
        pooled = self._forward(self.inputs(batch), self.config.cross_attention)[0]
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        gates = self.gates(pooled.clip, thresholds, thresholds)
        return ParsingScores(pooled.heard, pooled.seen, pooled.clip_heard, pooled.clip_seen, gates)
