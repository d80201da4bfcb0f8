"""Base of audio-visual video parsing methods: settings, inputs, and training on clip labels.

Segment pseudo-labels can be learned from as well.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.errors import PipelineError
from pipeline.layers.parsing_losses import segment_loss
from pipeline.methods.base import Method, MethodConfig, Progress
from pipeline.methods.shared.inputs import check_shapes, vector_stream, vector_stream_shape
from pipeline.methods.shared.tuning import Fusion, tuned
from pipeline.metrics.parsing_thresholds import select_thresholds
from pipeline.settings import Settings
from pipeline.tasks.avvp import MODALITIES, ParsingScores, ParsingTargets
from pipeline.tasks.labels import Labels, VideoTargets


class PseudoLabels(Settings):
    """Streams of the feature set that hold segment pseudo-labels.

    (C,) in 0..1 per segment, classes in the data set's order. CoLeaF's Table 6 uses VALOR's, made with CLAP and CLIP.
    """

    audio: str = Field(description="name of the stream of audio labels")
    visual: str = Field(description="name of the stream of visual labels")


class ParsingConfig(MethodConfig):
    """Settings shared by all parsing methods."""

    motion: str | None = Field("motion", description="name of the stream of motion features; null: none")
    pseudo_labels: PseudoLabels | None = Field(None, description="segment labels to learn from beside clip labels")
    thresholds: Literal["fixed", "selected", "given", "tuned"] = Field(
        "fixed",
        description="of the clip: the method's own | per class, by the modality's event-level F on validation | given_thresholds; tuned:"
        " one pair for segments and clips, and the shares of two fused passes, by segment/AV on validation (task avvp_av)",
    )
    given_thresholds: dict[Literal["audio", "visual"], tuple[Annotated[float, Field(ge=0, le=1)], ...]] = Field(
        {}, description="by modality, one per class in the data set's order, as CMPAE publishes them; others keep the method's own"
    )
    selected_for: tuple[Literal["audio", "visual"], ...] = Field(
        ("visual",), min_length=1, description="modalities to select thresholds for"
    )
    threshold_epoch: int | None = Field(
        None, ge=1, description="epoch whose weights select the thresholds (CMPAE: 8); null: the kept weights"
    )

    @model_validator(mode="after")
    def _epoch_is_reached(self) -> Self:
        if self.threshold_epoch is not None and self.threshold_epoch > self.recipe.epochs:
            raise ValueError(f"threshold_epoch {self.threshold_epoch} is after the last epoch, recipe.epochs {self.recipe.epochs}")
        return self

    @model_validator(mode="after")
    def _thresholds_are_given(self) -> Self:
        if (self.thresholds == "given") != bool(self.given_thresholds):
            raise ValueError("set given_thresholds and `thresholds: given` together or not at all")
        return self

    @property
    def training_labels(self) -> Labels:
        return "video"

    @property
    def streams(self) -> tuple[str, ...]:
        return () if self.motion is None else (self.motion,)

    @property
    def label_streams(self) -> tuple[str, ...]:
        return () if self.pseudo_labels is None else (self.pseudo_labels.audio, self.pseudo_labels.visual)

    @property
    def calibrated_after(self) -> int | None:
        return (self.threshold_epoch or 0) if self.thresholds in ("selected", "tuned") else None


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


class ParsingMethod(Method):
    """A method that learns from clip labels and finds the segments of each class, separately in audio and visual.

    Args:
        other_shapes: shape of one segment of the motion stream, (D_m,), if the settings name one.

    Raises:
        PipelineError: the motion stream has another shape, or the number of given thresholds differs from the number of classes.
    """

    tasks = frozenset({"avvp", "avvp_av"})
    nan_if_unset = frozenset({"selected_thresholds", "tuned_gates", "tuned_share"})
    every_frame: ClassVar[bool] = False  # whether the network takes a segment's frames, or positions, one by one
    config: ParsingConfig
    selected_thresholds: Tensor
    tuned_gates: Tensor

    def __init__(
        self, config: ParsingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.motion_shape = vector_stream_shape(config.motion, other_shapes)
        if config.thresholds == "tuned":  # of a segment and of a clip; NaN: use the method's own
            self.register_buffer("tuned_gates", torch.full((2,), float("nan")))
        elif config.thresholds != "fixed":  # (audio and visual, C); NaN: use the method's own
            self.register_buffer("selected_thresholds", self._given_thresholds())

    def _given_thresholds(self) -> Tensor:
        table = torch.full((2, self.num_classes), float("nan"))
        for modality, values in self.config.given_thresholds.items():
            if len(values) != self.num_classes:
                needed = f"{self.num_classes} are needed, one per class in the data set's order"
                raise PipelineError(f"given_thresholds.{modality}: {len(values)} thresholds; {needed}")
            table[MODALITIES.index(modality)] = torch.tensor(values)
        return table

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

    def gates(self, like: Tensor, audio: tuple[float, float], visual: tuple[float, float]) -> Tensor:
        """Thresholds in the form of :class:`ParsingScores`.

        The method's own, equal for all classes; selected or given clip thresholds replace them where they exist.

        Args:
            like: (B, C); gives batch size, dtype and device.
            audio, visual: the method's own (segment, clip) thresholds.

        Returns:
            (B, 2, 2, C).
        """
        values = torch.tensor([audio, visual], dtype=like.dtype, device=like.device)[:, :, None].repeat(1, 1, self.num_classes)
        return self.with_selected(values.expand(len(like), -1, -1, -1))

    def with_selected(self, thresholds: Tensor) -> Tensor:
        """Replace clip thresholds by selected or given ones where they exist: (B, 2, 2, C) -> (B, 2, 2, C)."""
        if self.config.thresholds == "fixed":
            return thresholds
        if self.config.thresholds == "tuned":
            tuned = self.tuned_gates.to(thresholds.dtype)[:, None].expand_as(thresholds)
            return torch.where(tuned.isnan(), thresholds, tuned)
        selected = self.selected_thresholds.to(thresholds.dtype)
        own = thresholds[:, :, 1]
        return torch.stack([thresholds[:, :, 0], torch.where(selected.isnan(), own, selected)], dim=2)

    def calibrated(self, scores: ParsingScores, truth: Any, mask: Tensor) -> dict[str, Tensor]:
        """``selected_thresholds`` (2, C), selected around the method's own thresholds, or what is tuned.

        Raises:
            PipelineError: the truth is that of another task.
        """
        if self.config.thresholds == "tuned":
            return tuned(self.fusions(scores), truth, mask)
        if not isinstance(truth, ParsingTargets):
            raise PipelineError("thresholds: selected needs the task avvp; choose that task, or `thresholds: tuned`")
        selected = torch.full((2, self.num_classes), float("nan"))
        for number, modality in enumerate(MODALITIES):
            if modality in self.config.selected_for:
                segment, own = scores.thresholds[0, number]
                on = (getattr(scores, modality) >= segment) & mask.unsqueeze(-1)
                chosen = select_thresholds(
                    on.transpose(1, 2).numpy(), getattr(scores, f"clip_{modality}").numpy(), own.numpy(),
                    (getattr(truth, modality) & mask.unsqueeze(-1)).transpose(1, 2).numpy(),
                )  # fmt: skip
                selected[number] = torch.from_numpy(chosen)
        return {"selected_thresholds": selected}

    def fusions(self, scores: ParsingScores) -> Iterator[Fusion]:
        """The scores under every share of two passes that may be chosen, with the buffers to store for it."""
        yield {}, scores
