"""The interface between an encoder (frames or waveform -> features of a segment) and an extraction.

Shape letters: N items of a batch, F frames, T segments of one clip, L samples, H x W pixels, D feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.registry import Registry
from pipeline.settings import Settings


def own_file(setting: str) -> Path | None:
    """The setting ``weights`` as a path; None where it is one of the words instead."""
    return None if setting in ("pretrained", "none") or setting.startswith("finetuned/") else Path(setting)


class EncoderConfig(Settings):
    """Base of an encoder's own settings."""

    places: ClassVar[frozenset[str]] = frozenset()  # settings that name a file: spec() holds its hash, not its path
    runs_code: ClassVar[bool] = False  # a setting names a program, which making the encoder runs

    def files(self) -> dict[str, Path]:
        """The files of the user's that the settings name, by setting."""
        return {setting: path for setting in sorted(self.places) if (path := own_file(getattr(self, setting))) is not None}

    def sources(self) -> dict[str, Path]:
        """Source files of the program that a setting names, beside those of :meth:`files`."""
        return {}


class PretrainedConfig(EncoderConfig):
    """Settings of an encoder with a network.

    ``weights`` is resolved by :mod:`pipeline.encoders.weights`: a path, ``pretrained`` (models/pretrained/, then the package that
    carries them), ``finetuned/NAME``, or ``none`` for random weights.
    """

    places: ClassVar[frozenset[str]] = frozenset({"weights"})
    weights: str = Field("pretrained", description="pretrained, finetuned/NAME, the path of a file, or none for random weights")


class Encoder(nn.Module):
    """Frozen network (or plain front end) that turns prepared input into features.

    ``prepare`` runs in loading threads on the CPU, ``encode`` on the device in passes that mix clips.
    An encoder with weights holds them all in ``self.network``: the file of a fine-tuned encoder is ``network.state_dict()``.
    """

    name: ClassVar[str]  # as registered
    modality: ClassVar[Literal["visual", "audio"]]
    Config: ClassVar[type[EncoderConfig]]
    traceable: ClassVar[bool] = False  # encode depends only on its batch's shape and numbers: an extraction may freeze it
    version: ClassVar[int] = 1  # raised by hand whenever a code change moves the numbers; part of spec()

    output_shape: tuple[int, ...]  # of one item that prepare makes (a frame or a segment), e.g. (7, 7, 512) or (128,)

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.fingerprints: dict[str, str] = {}  # setting in ``places`` -> sha256 of the loaded file

    @abstractmethod
    def transform(self) -> dict[str, Any]:
        """Describe what ``prepare`` does to its input, as plain JSON."""

    def spec(self) -> dict[str, Any]:
        """Everything that moves the numbers, as plain JSON: name, version, settings, hash of the weights, transform."""
        return {
            "encoder": self.name,
            "version": self.version,
            "settings": self.config.model_dump(mode="json", exclude=set(self.config.places)),
            "weights": dict(self.fingerprints),
            "transform": self.transform(),
        }

    @abstractmethod
    def encode(self, batch: Tensor) -> Tensor:
        """Encode (N, *input) to (N, *output_shape), float32; the caller sets ``torch.inference_mode``."""


class VisualEncoder(Encoder):
    modality = "visual"
    sees: ClassVar[Literal["frame", "segment"]] = "frame"  # what one item of its input is

    @property
    def memory_format(self) -> torch.memory_format:
        """Fastest memory layout for weights and images.

        Channels last makes convolutions up to twice as fast (benchmarks/RESULTS.md); 5-d video tensors have no such format.
        """
        images = all(parameter.dim() < 5 for parameter in self.parameters())
        return torch.channels_last if images else torch.contiguous_format

    @property
    def frames(self) -> Literal["mean", "keep"]:
        """Whether a segment's several outputs are stored as their mean or kept, (F / T, *output_shape)."""
        return "mean"

    @abstractmethod
    def prepare(self, frames: Tensor, per_segment: int = 1) -> Tensor:
        """Resize, crop and normalise RGB frames (F, H, W, 3) uint8 of whole segments, ``per_segment`` each.

        Returns:
            float32, (F, 3, h, w): one item per frame; or (T, 3, per_segment, h, w): one per segment, for an encoder of whole segments.
        """

    def arrange(self, frames: Tensor, per_segment: int = 1) -> Tensor:
        """Give each item its frames.

        Returns:
            (F, H, W, 3); or (T, per_segment, H, W, 3) for an encoder of whole segments.

        Raises:
            PipelineError: F is not a multiple of ``per_segment``.
        """
        if self.sees == "frame":
            return frames
        segments, left = divmod(len(frames), per_segment)
        if left:
            raise PipelineError(f"{self.name}: {len(frames)} frames are not a whole number of segments of {per_segment}")
        return frames.unflatten(0, (segments, per_segment))

    @property
    def prepares_on_device(self) -> bool:
        """Whether :meth:`prepare_on_device` gives the bytes of ``prepare``; frames then cross to a GPU as they are."""
        return False

    def prepare_on_device(self, rows: Tensor) -> Tensor:
        """Prepare arranged frames, uint8, where they lie: what ``prepare`` returns, in any memory layout."""
        raise NotImplementedError


class AudioEncoder(Encoder):
    modality = "audio"

    @abstractmethod
    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """Turn mono (L,) float32 in [-1, 1] at ``sample_rate`` Hz into (T, *input), one example per segment.

        Resamples to the encoder's own rate; audio shorter than the clip is padded with silence.
        """


ENCODERS: Registry[type[Encoder]] = Registry("encoder")


def create(name: str, **config) -> Encoder:
    """Build the registered encoder ``name`` in eval mode, its weights loaded, gradients off.

    Raises:
        UnknownName: no such encoder.
        pydantic.ValidationError: a setting the encoder does not know, or out of range.
        PipelineError: the weights are missing or do not fit; lists the places searched.
    """
    encoder_class = ENCODERS.get(name)
    encoder = encoder_class(encoder_class.Config(**config))
    encoder.eval().requires_grad_(False)
    return encoder
