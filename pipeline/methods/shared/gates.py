"""Thresholds of a parsing method's decision: its own, given ones, or those selected or tuned on validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.methods.base import Method, MethodConfig
from pipeline.methods.shared.tuning import Fusion, tuned
from pipeline.metrics.parsing_thresholds import select_thresholds
from pipeline.tasks.avvp import MODALITIES, ParsingScores, ParsingTargets


class GateConfig(MethodConfig):
    """Settings of the thresholds."""

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
    def calibrated_after(self) -> int | None:
        return (self.threshold_epoch or 0) if self.thresholds in ("selected", "tuned") else None


class GatedMethod(Method):
    """A method whose classes are active where segment and clip reach a threshold.

    Raises:
        PipelineError: the number of given thresholds differs from the number of classes.
    """

    nan_if_unset = frozenset({"selected_thresholds", "tuned_gates", "tuned_share"})
    config: GateConfig
    selected_thresholds: Tensor
    tuned_gates: Tensor

    def __init__(self, config: GateConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
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
