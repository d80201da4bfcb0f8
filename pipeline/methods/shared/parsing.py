"""What methods of audio-visual video parsing share: their inputs, their settings, and that they learn from the labels of clips alone, or
beside them from guessed labels of segments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.errors import PipelineError
from pipeline.layers.parsing_losses import segment_loss
from pipeline.methods.base import Method, MethodConfig, Progress
from pipeline.methods.shared.inputs import check_shapes
from pipeline.metrics.parsing_thresholds import select_thresholds
from pipeline.settings import Settings
from pipeline.tasks.avvp import MODALITIES, ParsingScores, ParsingTargets
from pipeline.tasks.labels import Labels, VideoTargets


class PseudoLabels(Settings):
    """Streams of the feature set that hold guessed labels of segments, (C,) in 0..1, classes in the data set's order: VALOR's, by CLAP and
    by CLIP, in CoLeaF's Table 6."""

    audio: str = Field(description="name of the stream of audio labels")
    visual: str = Field(description="name of the stream of visual labels")


class ParsingConfig(MethodConfig):
    """Settings of every parsing method."""

    motion: str | None = Field("motion", description="name of the stream of motion features beside the visual one; null: none is used")
    pseudo_labels: PseudoLabels | None = Field(None, description="labels of segments to learn from beside those of clips; null: none")
    thresholds: Literal["fixed", "selected", "given"] = Field(
        "fixed",
        description="of the clip: the method's own | by class, by the event-level F of the modality on validation | given_thresholds",
    )
    given_thresholds: dict[Literal["audio", "visual"], tuple[Annotated[float, Field(ge=0, le=1)], ...]] = Field(
        {}, description="of a modality, by class in the data set's order, as CMPAE publishes them; one not named keeps the method's own"
    )
    selected_for: tuple[Literal["audio", "visual"], ...] = Field(("visual",), min_length=1, description="modalities to select them for")
    threshold_epoch: int | None = Field(
        None, ge=1, description="select by the weights after so many epochs, as CMPAE does (8); null: by the weights that are kept"
    )

    @model_validator(mode="after")
    def _epoch_is_reached(self) -> Self:
        if self.threshold_epoch is not None and self.threshold_epoch > self.recipe.epochs:
            raise ValueError(f"threshold_epoch {self.threshold_epoch} lies beyond the last epoch, recipe.epochs {self.recipe.epochs}")
        return self

    @model_validator(mode="after")
    def _thresholds_are_given(self) -> Self:
        if (self.thresholds == "given") != bool(self.given_thresholds):
            raise ValueError("given_thresholds and `thresholds: given` go together")
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
        return (self.threshold_epoch or 0) if self.thresholds == "selected" else None


class ParsingInputs(NamedTuple):
    """visual (B, T, D_v), the mean of a segment's frames or positions, or with ``every_frame`` (B, T, S, D_v), audio (B, T, D_a), motion
    (B, T, D_m) or None, mask (B, T) bool with at least one True per clip."""

    visual: Tensor
    audio: Tensor
    motion: Tensor | None
    mask: Tensor


class ParsingMethod(Method):
    """A method that learns from the classes of clips and finds the segments of each, audio and visual apart.

    Args:
        other_shapes: of one segment, of the motion stream where the settings name one: (D_m,).

    Raises:
        PipelineError: a motion stream of another form; given thresholds that are not one for each class.
    """

    tasks = frozenset({"avvp"})
    nan_if_unset = frozenset({"selected_thresholds"})
    every_frame: ClassVar[bool] = False  # whether the network wants the frames, or positions, of a segment apart
    config: ParsingConfig
    selected_thresholds: Tensor

    def __init__(
        self, config: ParsingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.motion_shape = None if config.motion is None else tuple((other_shapes or {})[config.motion])
        if self.motion_shape is not None and len(self.motion_shape) != 1:
            raise PipelineError(f"the stream {config.motion} has the shape {self.motion_shape} per segment; one vector is needed")
        if config.thresholds != "fixed":  # (audio and visual, C); NaN where the method's own holds
            self.register_buffer("selected_thresholds", self._given_thresholds())

    def _given_thresholds(self) -> Tensor:
        table = torch.full((2, self.num_classes), float("nan"))
        for modality, values in self.config.given_thresholds.items():
            if len(values) != self.num_classes:
                needed = f"{self.num_classes} are needed, one for each class in the data set's order"
                raise PipelineError(f"given_thresholds.{modality}: {len(values)} thresholds; {needed}")
            table[MODALITIES.index(modality)] = torch.tensor(values)
        return table

    @property
    def motion_width(self) -> int | None:
        return None if self.motion_shape is None else self.motion_shape[0]

    def inputs(self, batch: Batch) -> ParsingInputs:
        """Features in the dtype of the weights, padded segments zero; a clip that is nothing but padding is shown as T segments of zeros.

        Without ``every_frame`` the frames are averaged before the linear layer that the papers have there: equal up to rounding, and a
        fraction of the work.

        Raises:
            PipelineError: features of another shape than the method was built for, or no motion.
        """
        check_shapes(self, batch)
        dtype, padding = next(self.parameters()).dtype, ~batch.mask.unsqueeze(-1)
        # Zeroed, not only masked: a padded segment may hold anything, and 0 * NaN is NaN.
        visual = batch.visual.to(dtype).reshape(*batch.mask.shape, -1, self.visual_shape[-1])
        visual = visual.masked_fill(padding.unsqueeze(-1), 0.0) if self.every_frame else visual.mean(dim=2).masked_fill(padding, 0.0)
        motion = None
        if self.config.motion is not None:
            stream = batch.others.get(self.config.motion)
            if stream is None or tuple(stream.shape[2:]) != self.motion_shape:
                shape = "none" if stream is None else f"of shape {tuple(stream.shape[2:])}"
                raise PipelineError(f"{self.config.motion} features: {shape}, but this {type(self).__name__} needs {self.motion_shape}")
            motion = stream.to(dtype).masked_fill(padding, 0.0)
        audio = batch.audio.to(dtype).masked_fill(padding, 0.0)
        return ParsingInputs(visual, audio, motion, batch.mask | ~batch.mask.any(dim=1, keepdim=True))

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """``total`` and its terms; clips of padding alone carry no weight.

        Raises:
            TypeError: targets that tell more than the labels of clips.
            PipelineError: pseudo-labels that the batch does not hold, or that the method does not learn from.
        """
        terms = self.losses_of_clips(batch, self.labels(targets), batch.mask.any(dim=1), progress)
        if self.config.pseudo_labels is not None and "audio_segments" not in terms:
            raise PipelineError(f"pseudo_labels: {type(self).__name__} does not learn from labels of segments; set it to null")
        return terms

    def labels(self, targets: Tensors) -> Tensor:
        """(B, C) in {0, 1}, in the dtype of the weights.

        Raises:
            TypeError: as in :meth:`losses`.
        """
        if not isinstance(targets, VideoTargets):
            raise TypeError(f"{type(self).__name__} learns from the labels of clips and does not train on {type(targets).__name__}")
        return targets.labels[:, : self.num_classes].to(next(self.parameters()).dtype)

    @abstractmethod
    def predict(self, batch: Batch) -> ParsingScores: ...

    @abstractmethod
    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The losses from the clips' labels (B, C) in {0, 1}; ``counted`` (B,) bool: clips that are not all padding.

        A method that learns from pseudo-labels asks :meth:`told` what to learn of each modality, and adds :meth:`segment_losses`.
        """

    def pseudo_labels(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """(audio, visual), (B, T, C) each, in the dtype of the weights, zero in padded segments; None where the settings name none.

        Raises:
            PipelineError: the batch does not hold them, or not one for each class.
        """
        if self.config.pseudo_labels is None:
            return None
        expected, dtype = (*batch.mask.shape, self.num_classes), next(self.parameters()).dtype
        for name in self.config.label_streams:
            if name not in batch.others or tuple(batch.others[name].shape) != expected:
                shape = f"of shape {tuple(batch.others[name].shape)}" if name in batch.others else "none"
                raise PipelineError(f"pseudo_labels: stream {name}: {shape}, and {expected} is needed, one label for each class")
        audio, visual = (batch.others[name].to(dtype).masked_fill(~batch.mask.unsqueeze(-1), 0.0) for name in self.config.label_streams)
        return audio, visual

    def told(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The audio and the visual labels, (B, C) each: of pseudo-labels the largest over the segments, else those of the clip.

        No paper prints how CoLeaF trains on VALOR's labels; this, and :meth:`segment_losses`, is how VALOR and LEAP do.
        """
        guessed = self.pseudo_labels(batch)
        return (labels, labels) if guessed is None else (guessed[0].amax(dim=1), guessed[1].amax(dim=1))

    def segment_losses(self, batch: Batch, audio: Tensor, visual: Tensor) -> dict[str, Tensor]:
        """``audio_segments``, ``visual_segments``: binary cross-entropy of the segments' probabilities (B, T, C) with the pseudo-labels,
        mean over valid segments and classes; nothing where the settings name none."""
        guessed = self.pseudo_labels(batch)
        if guessed is None:
            return {}
        return {
            f"{modality}_segments": segment_loss(probability, target, batch.mask)
            for modality, probability, target in zip(MODALITIES, (audio, visual), guessed, strict=True)
        }

    def gates(self, like: Tensor, audio: tuple[float, float], visual: tuple[float, float]) -> Tensor:
        """Thresholds as :class:`ParsingScores` wants them: the method's own, the same for all classes, and the clip's selected or
        given ones in their place where there are any.

        Args:
            like: (B, C).
            audio, visual: (segment, clip), the method's own.

        Returns:
            (B, 2, 2, C).
        """
        values = torch.tensor([audio, visual], dtype=like.dtype, device=like.device)[:, :, None].repeat(1, 1, self.num_classes)
        return self.with_selected(values.expand(len(like), -1, -1, -1))

    def with_selected(self, thresholds: Tensor) -> Tensor:
        """(B, 2, 2, C) thresholds, those of the clip replaced by the selected or given ones, where there are any."""
        if self.config.thresholds == "fixed":
            return thresholds
        selected = self.selected_thresholds.to(thresholds.dtype)
        own = thresholds[:, :, 1]
        return torch.stack([thresholds[:, :, 0], torch.where(selected.isnan(), own, selected)], dim=2)

    def calibrated(self, scores: ParsingScores, truth: ParsingTargets, mask: Tensor) -> dict[str, Tensor]:
        """``selected_thresholds`` (2, C) of :func:`pipeline.metrics.parsing_thresholds.select_thresholds`, around the method's own ones."""
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
