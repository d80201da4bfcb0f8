"""Refined labels: train without the clip labels that one modality does not seem to contain, as MA removes them.

MA (CVPR 2021) finds them with a network trained first (:mod:`pipeline.methods.ma`) or reads published ones from an .npz; CVCMS and DHHN
take them over. They are stored with the weights (``removed_audio``, ``removed_visual``), by annotation row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.errors import NPZ_ERRORS, InputProblems, PipelineError
from pipeline.methods.base import METHODS, Method, MethodConfig, Progress
from pipeline.methods.shared.parsing import ParsingConfig, ParsingMethod
from pipeline.tasks.labels import VideoTargets

REMOVED = ("removed_audio", "removed_visual")


class RefinedConfig(ParsingConfig):
    """Settings shared by all methods with refined labels."""

    refine: bool = Field(True, description="false: keep all labels and train no network first")
    removed_labels: Path | None = Field(
        None,
        description=".npz with remove_audio and remove_visual, (rows, C) bool each, by annotation row; null: found by a first network",
    )

    @property
    def finds_labels(self) -> bool:
        """Whether a network trained first finds the labels to remove."""
        return self.refine and self.removed_labels is None


REFINER = "ma"


class RefinedByMaConfig(RefinedConfig):
    """Settings of a method of which MA, trained first, can refine the labels."""

    refine: bool = Field(False, description="learn without the labels that MA removes from one modality")
    refiner: dict[str, Any] = Field({}, description="settings of the network trained first, of the method ma; {}: its own defaults")

    @model_validator(mode="after")
    def _refiner_is_in_order(self) -> Self:
        if not self.refine and self.removed_labels is not None:
            raise ValueError("removed_labels needs refine: true")
        if not self.finds_labels and self.refiner:
            raise ValueError("refiner needs refine: true, and no removed_labels: else no network is trained first")
        if idle := sorted(self.refiner.keys() & {"motion", "pseudo_labels", "refine", "removed_labels"}):
            raise ValueError(f"refiner: {', '.join(idle)}: set this in the method's own settings")
        try:
            _ = self.first
        except ValidationError as error:  # unchanged, its locations would read as settings of this method
            found = (f"{'.'.join(map(str, ('refiner', *finding['loc'])))}: {finding['msg']}" for finding in error.errors())
            raise ValueError("; ".join(found)) from None
        return self

    @property
    def first(self) -> MethodConfig | None:
        if not self.finds_labels:
            return None
        shared = self.model_dump(include={"motion", "pseudo_labels"})
        return METHODS.get(REFINER).Config(**{**self.refiner, **shared, "refine": False})

    @property
    def first_method(self) -> str | None:
        return REFINER if self.finds_labels else None


class Absent(NamedTuple):
    """Labels of B clips removed from the audio and from the visual targets, (B, C) bool each."""

    audio: Tensor
    visual: Tensor


@runtime_checkable
class FindsLabels(Protocol):
    """A trained network that finds labels to remove."""

    def labels_to_remove(self, batches: Iterable[tuple[Batch, Tensors]]) -> tuple[Tensor, Tensor]:
        """From the audio and the visual targets, (annotation rows, C) bool each."""


class RefinedMethod(ParsingMethod):
    """A parsing method that can train on refined labels."""

    config: RefinedConfig
    removed_audio: Tensor
    removed_visual: Tensor

    def __init__(
        self, config: RefinedConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
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
            told = [(self.labels(targets) > 0.5, self.rows(targets)) for _, targets in batches()]
            self._read_removed(self.config.removed_labels, *(torch.cat(part) for part in zip(*told, strict=True)))
        elif isinstance(first, FindsLabels):
            self.removed_audio, self.removed_visual = first.labels_to_remove(batches())

    def _read_removed(self, path: Path, labels: Tensor, rows: Tensor) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                removed = [torch.from_numpy(np.asarray(file[name])).to(labels.device) for name in ("remove_audio", "remove_visual")]
        except NPZ_ERRORS as error:
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

    def rows(self, targets: Tensors) -> Tensor:
        """Annotation rows of the clips, (B,), int64.

        Raises:
            TypeError: the targets do not have them.
        """
        if not isinstance(targets, VideoTargets) or targets.rows is None:
            raise TypeError(f"{type(self).__name__} with refined labels needs targets with the annotation rows of the clips")
        return targets.rows

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`refined_losses` and their weighted sum, without the removed labels.

        Raises:
            TypeError: targets other than clip labels, or without annotation rows.
        """
        labels = self.labels(targets)
        if not len(self.removed_audio):
            return self.losses_of_clips(batch, labels, batch.mask.any(dim=1), progress)
        rows = self.rows(targets)
        return self.refined_losses(batch, labels, Absent(self.removed_audio[rows], self.removed_visual[rows]), progress)

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`losses` with all labels."""
        nothing = torch.zeros_like(labels, dtype=torch.bool)
        return self.refined_losses(batch, labels, Absent(nothing, nothing), progress)

    @abstractmethod
    def refined_losses(self, batch: Batch, labels: Tensor, absent: Absent, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms and their weighted sum ``"total"``.

        Args:
            labels: (B, C) in {0, 1}, of the clips.
            absent: what to take from the targets of each modality.
        """
