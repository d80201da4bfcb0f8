"""Label denoising: in each batch, drop a clip label from the modality that does not seem to contain it.

Introduced by JoMoLD (ECCV 2022) and taken over by CMPAE (CVPR 2023) and CoLeaF (ECCV 2024).

A class's noise ratio in a modality is the share of its labels that do not belong to that modality. A network trained first (JoMoLD without
attention across the modalities) estimates the ratios; they are stored with the weights (``noise_audio``, ``noise_visual``). Published
ratios can be read from ``noise_ratios.npz``. The released warm-up of the ratios over 0.9 epochs multiplies the ratio into itself, starting
at 0, so it removes nothing in the first epoch and applies the full ratio from the second on; the same holds here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.errors import NPZ_ERRORS, PipelineError
from pipeline.layers.parsing_losses import binary_terms, smoothed
from pipeline.methods.base import Method, Progress
from pipeline.methods.shared.anchor import AnchorMethod
from pipeline.methods.shared.parsing import ParsingConfig, ParsingInputs

LARGEST_RATIOS = 2**20  # bytes of an unpacked .npz; a thousand classes take about 17,000


class DenoisingConfig(ParsingConfig):
    """Settings shared by all methods with label denoising."""

    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the visual target; the rest is 1/2")
    denoise: bool = Field(True, description="false: keep all labels and train no network first")
    noise_ratios: Path | None = Field(
        None, description=".npz with arrays audio and visual, (C,) each, as published; null: estimate them with a first network"
    )
    audio_threshold: float = Field(0.6, gt=0, description="an audio label is noise if its probability over the class mean is below this")
    visual_threshold: float = Field(1.8, gt=0, description="likewise for visual labels")


class DenoisingMethod(AnchorMethod):
    """A parsing method that removes noisy labels during training."""

    config: DenoisingConfig
    noise_audio: Tensor
    noise_visual: Tensor

    def __init__(
        self, config: DenoisingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        for name in ("noise_audio", "noise_visual"):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the ratios with the weights but keep them float64, because they are multiplied and then truncated."""
        ratios = {name: self._buffers[name] for name in ("noise_audio", "noise_visual")}
        super()._apply(fn, recurse)
        for name, before in ratios.items():
            moved = self._buffers[name]
            assert before is not None
            assert moved is not None
            self._buffers[name] = before.to(moved.device)
        return self

    def phase(self, progress: Progress) -> Hashable:
        return self.removes(progress)

    def removes(self, progress: Progress) -> bool:
        """Whether labels are removed yet."""
        return self.config.denoise and progress.epoch > 0

    def alone(self, inputs: ParsingInputs) -> tuple[Tensor, Tensor]:
        """Audio and visual clip probabilities, (B, C) each, without attention across the modalities."""
        said = self.anchor_forward(inputs, cross=False)
        return said.clip_audio, said.clip_visual

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        """Set the noise ratios from the first network or from the published file.

        Raises:
            PipelineError: the file does not contain valid ratios.
        """
        if self.config.noise_ratios is not None and self.config.denoise:
            self._read_ratios(self.config.noise_ratios)
        elif isinstance(first, DenoisingMethod):
            audio, visual = [], []
            for batch, targets in batches():
                counted, (of_audio, of_visual) = batch.mask.any(dim=1), first.alone(first.inputs(batch))
                of_sound, of_picture = (of_modality[counted] for of_modality in self.told(batch, self.labels(targets)))
                audio.append((of_audio[counted], of_sound, of_sound))
                visual.append((of_visual[counted], smoothed(of_picture, self.config.visual_share), of_picture))
            self.noise_audio.copy_(noise_ratio(audio, self.config.audio_threshold))
            self.noise_visual.copy_(noise_ratio(visual, self.config.visual_threshold))

    def _read_ratios(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as packed:
                if sum(part.file_size for part in packed.infolist()) > LARGEST_RATIOS:
                    raise ValueError(f"it unpacks to more than {LARGEST_RATIOS} bytes")
            with np.load(path, allow_pickle=False) as file:
                ratios = {name: np.asarray(file[name], dtype=np.float64) for name in ("audio", "visual")}
        except NPZ_ERRORS as error:
            raise PipelineError(f"noise_ratios: {path}: {error}; an .npz with the arrays audio and visual is needed") from None
        for (name, values), buffer in zip(ratios.items(), (self.noise_audio, self.noise_visual), strict=True):
            if values.shape != buffer.shape or not ((values >= 0) & (values <= 1)).all():
                raise PipelineError(
                    f"noise_ratios: {path}: {name} must be {len(buffer)} ratios in 0..1, one per class (here: {values.shape})"
                )
            buffer.copy_(torch.from_numpy(values))

    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Audio and visual targets of the clips, (B, C) each.

        The labels, the visual ones smoothed; from the second epoch on without the labels that the current network finds absent from the
        modality.
        """
        audio, visual = told[0], smoothed(told[1], self.config.visual_share)
        if not self.removes(progress):
            return audio, visual
        absent_audio, absent_visual = self._absent(inputs, audio, visual, counted)
        return audio.masked_fill(absent_audio, 0.0), visual.masked_fill(absent_visual, 0.0)

    @torch.no_grad()
    def _absent(self, inputs: ParsingInputs, audio: Tensor, visual: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Labels to remove from the audio and the visual targets: (B, C) bool each.

        Computed in train mode, dropout included, as released.
        """
        of_audio, of_visual = self.alone(inputs)
        audio_terms, visual_terms = binary_terms(of_audio, audio), binary_terms(of_visual, visual)
        return (
            absent_labels(audio_terms, visual_terms, (audio > 0.5) & counted.unsqueeze(1), self.noise_audio),
            absent_labels(visual_terms, audio_terms, (visual > 0.5) & counted.unsqueeze(1), self.noise_visual),
        )


def noise_ratio(parts: Iterable[tuple[Tensor, Tensor, Tensor]], threshold: float) -> Tensor:
    """Per class, the share of its clips in which the modality does not seem to contain it.

    #{y = 1, P y' / mean P < threshold} / #{y = 1}.

    Args:
        parts: per batch, the modality's probabilities P, its targets y', and the clips' labels y; (B, C) each.
        threshold: on P relative to its mean over the clips (the mean of the batch means, as released).

    Returns:
        (C,), float64; 0 for a class without clips.
    """
    probability, target, labels, means = [], [], [], []
    for p, y_of_modality, y in (part for part in parts if len(part[0])):
        probability.append(p)
        target.append(y_of_modality)
        labels.append(y > 0.5)
        means.append(p.mean(dim=0))
    present = torch.cat(labels)
    relative = torch.cat(probability) * torch.cat(target) / torch.stack(means).mean(dim=0)
    return ((relative < threshold) & present).sum(dim=0).double() / present.sum(dim=0).clamp(min=1)


def absent_labels(own_terms: Tensor, other_terms: Tensor, positive: Tensor, ratio: Tensor) -> Tensor:
    """Select the labels to remove from one modality.

    Per class, drop the label in clips among both the n highest losses here and the n lowest in the other modality;
    n = trunc(ratio * clips with the class).

    Args:
        own_terms, other_terms: (B, C), the cross-entropy of each label in this and in the other modality.
        positive: (B, C), bool, the clips with the class.
        ratio: (C,), float64, in [0, 1]. In float32, 8/164 times 41 clips would fall short of 2 and keep one label too many.

    Returns:
        (B, C), bool.
    """
    removable = torch.trunc(ratio * positive.sum(dim=0))
    return positive & (_rank(-own_terms, positive) < removable) & (_rank(other_terms, positive) < removable)


def _rank(values: Tensor, among: Tensor) -> Tensor:
    """Rank of each value in its column, smallest first; values outside ``among`` come last."""
    return values.masked_fill(~among, float("inf")).argsort(dim=0, stable=True).argsort(dim=0)
