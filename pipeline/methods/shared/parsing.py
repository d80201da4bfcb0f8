"""Base of audio-visual video parsing methods: settings, inputs, and training on clip labels.

Segment pseudo-labels can be learned from as well.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.errors import PipelineError
from pipeline.layers.parsing_losses import segment_loss
from pipeline.methods.base import Progress
from pipeline.methods.shared.gates import GateConfig, GatedMethod
from pipeline.methods.shared.inputs import check_shapes, vector_stream, vector_stream_shape
from pipeline.settings import Settings
from pipeline.tasks.avvp import MODALITIES, ParsingScores
from pipeline.tasks.labels import Labels, VideoTargets


class PseudoLabels(Settings):
    """Streams of the feature set that hold segment pseudo-labels.

    (C,) in 0..1 per segment, classes in the data set's order. CoLeaF's Table 6 uses VALOR's, made with CLAP and CLIP.
    """

    audio: str = Field(description="name of the stream of audio labels")
    visual: str = Field(description="name of the stream of visual labels")


class ParsingConfig(GateConfig):
    """Settings shared by all parsing methods."""

    motion: str | None = Field("motion", description="name of the stream of motion features; null: none")
    pseudo_labels: PseudoLabels | None = Field(None, description="segment labels to learn from beside clip labels")
    clip_modality_losses: bool = Field(True, description="false: of a clip, train only the probability of either modality, as VALOR does")
    segment_weight: float = Field(1.0, ge=0, le=1000, description="of the losses on pseudo_labels")

    @property
    def training_labels(self) -> Labels:
        return "video"

    @property
    def streams(self) -> tuple[str, ...]:
        return () if self.motion is None else (self.motion,)

    @property
    def label_streams(self) -> tuple[str, ...]:
        return () if self.pseudo_labels is None else (self.pseudo_labels.audio, self.pseudo_labels.visual)


class ParsingInputs(NamedTuple):
    """Inputs of a parsing network.

    visual: (B, T, D_v), the mean of a segment's frames or positions; (B, T, S, D_v) with ``every_frame``.
    audio: (B, T, D_a).
    motion: (B, T, D_m) or None.
    mask: (B, T), bool, with at least one True per clip.
    """

    visual: Tensor
    audio: Tensor
    motion: Tensor | None
    mask: Tensor


class ParsingMethod(GatedMethod):
    """A method that learns from clip labels and finds the segments of each class, separately in audio and visual.

    Args:
        other_shapes: shape of one segment of the motion stream, (D_m,), if the settings name one.

    Raises:
        PipelineError: the motion stream has another shape; and as in :class:`GatedMethod`.
    """

    tasks = frozenset({"avvp", "avvp_av"})
    every_frame: ClassVar[bool] = False  # whether the network takes a segment's frames, or positions, one by one
    config: ParsingConfig

    def __init__(
        self, config: ParsingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.motion_shape = vector_stream_shape(config.motion, other_shapes)

    @property
    def motion_width(self) -> int | None:
        return None if self.motion_shape is None else self.motion_shape[0]

    def inputs(self, batch: Batch) -> ParsingInputs:
        """Prepare features: dtype of the weights, padded segments zero.

        A clip of padding only becomes T valid segments of zeros. Without ``every_frame`` the frames are averaged before the papers' linear
        layer instead of after it: equal up to rounding, at a fraction of the work.

        Raises:
            PipelineError: the features' shape differs from the one that the method was built for, or the motion stream is missing.
        """
        check_shapes(self, batch)
        dtype, padding = next(self.parameters()).dtype, ~batch.mask.unsqueeze(-1)

        def zeroed(stream: Tensor, places: Tensor = padding) -> Tensor:
            """Zeroed, not only masked: a padded segment may hold anything, and 0 * NaN is NaN."""
            return stream if batch.full else stream.masked_fill(places, 0.0)

        visual = batch.visual.to(dtype).reshape(*batch.mask.shape, -1, self.visual_shape[-1])
        visual = zeroed(visual, padding.unsqueeze(-1)) if self.every_frame else zeroed(visual.mean(dim=2))
        motion = None
        if self.config.motion is not None:
            stream = vector_stream(self, batch, self.config.motion, self.motion_shape)
            motion = zeroed(stream.to(dtype))
        return ParsingInputs(visual, zeroed(batch.audio.to(dtype)), motion, batch.mask | ~batch.mask.any(dim=1, keepdim=True))

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """``total`` and its terms; clips of padding only carry no weight.

        Raises:
            TypeError: targets other than clip labels.
            PipelineError: pseudo-labels are missing from the batch, or the method cannot learn from them.
        """
        terms = self.losses_of_clips(batch, self.labels(targets), batch.mask.any(dim=1), progress)
        if self.config.pseudo_labels is not None and "audio_segments" not in terms:
            raise PipelineError(f"pseudo_labels: {type(self).__name__} cannot learn from segment labels; set it to null")
        return terms

    def labels(self, targets: Tensors) -> Tensor:
        """Clip labels (B, C) in {0, 1}, in the dtype of the weights.

        Raises:
            TypeError: as in :meth:`losses`.
        """
        if not isinstance(targets, VideoTargets):
            raise TypeError(f"{type(self).__name__} learns from clip labels and cannot train on {type(targets).__name__}")
        return targets.labels[:, : self.num_classes].to(next(self.parameters()).dtype)

    @abstractmethod
    def predict(self, batch: Batch) -> ParsingScores: ...

    @abstractmethod
    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms and their weighted sum ``"total"``, from clip labels.

        A method that learns from pseudo-labels takes each modality's labels from :meth:`told` and adds :meth:`segment_losses`.

        Args:
            labels: (B, C) in {0, 1}.
            counted: (B,), bool, clips that are not all padding.
        """

    def pseudo_labels(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Audio and visual pseudo-labels, (B, T, C) each; None if the settings name none.

        They have the dtype of the weights and are zero in padded segments.

        Raises:
            PipelineError: the batch does not contain them, or not one per class.
        """
        if self.config.pseudo_labels is None:
            return None
        expected, dtype = (*batch.mask.shape, self.num_classes), next(self.parameters()).dtype
        for name in self.config.label_streams:
            if name not in batch.others or tuple(batch.others[name].shape) != expected:
                shape = f"of shape {tuple(batch.others[name].shape)}" if name in batch.others else "none"
                raise PipelineError(f"pseudo_labels: stream {name}: {shape}, but {expected} is needed, one label per class")
        audio, visual = (batch.others[name].to(dtype).masked_fill(~batch.mask.unsqueeze(-1), 0.0) for name in self.config.label_streams)
        return audio, visual

    def told(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Audio and visual clip labels, (B, C) each: the pseudo-labels' maximum over time, else the clip's labels.

        No paper states how CoLeaF trains on VALOR's labels; this and :meth:`segment_losses` follow VALOR and LEAP.
        """
        guessed = self.pseudo_labels(batch)
        return (labels, labels) if guessed is None else (guessed[0].amax(dim=1), guessed[1].amax(dim=1))

    def segment_losses(self, batch: Batch, audio: Tensor, visual: Tensor) -> dict[str, Tensor]:
        """``audio_segments``, ``visual_segments``: binary cross-entropy with the pseudo-labels; empty without them.

        Means over valid segments and classes. ``audio`` and ``visual`` are the segments' probabilities (B, T, C).
        """
        guessed = self.pseudo_labels(batch)
        if guessed is None:
            return {}
        return {
            f"{modality}_segments": segment_loss(probability, target, batch.mask)
            for modality, probability, target in zip(MODALITIES, (audio, visual), guessed, strict=True)
        }

    @property
    def segment_weights(self) -> dict[str, float]:
        """Weights of the terms of :meth:`segment_losses`."""
        return dict.fromkeys(("audio_segments", "visual_segments"), self.config.segment_weight)

    def kept_terms(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms without ``audio`` and ``visual``, the losses of a clip's modalities, if the settings leave these out."""
        dropped = () if self.config.clip_modality_losses else MODALITIES
        return {name: term for name, term in terms.items() if name not in dropped}
