"""What every encoder (frames or waveform -> features of one segment) offers to an extraction.

Shape letters: N items of a batch, F frames, T segments of one clip, L samples, H x W pixels, D feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.registry import Registry
from pipeline.settings import Settings


class EncoderConfig(Settings):
    """Base of an encoder's own settings."""

    places: ClassVar[frozenset[str]] = frozenset()  # settings that say where a file lies: its hash is in spec(), its place is not


class PretrainedConfig(EncoderConfig):
    """Settings of an encoder with a network. ``weights`` is resolved by :mod:`pipeline.encoders.weights`:
    a path, ``pretrained`` (models/pretrained/, then the package that carries them), ``finetuned/NAME``,
    or ``none`` for random weights, which must be asked for."""

    places: ClassVar[frozenset[str]] = frozenset({"weights"})
    weights: str = "pretrained"


class Encoder(nn.Module):
    """Frozen network (or plain front end) that turns prepared input into features.

    ``prepare`` runs in loading threads on the CPU, ``encode`` on the device in passes that mix clips.
    An encoder with weights holds them all in ``self.network``: the file of a fine-tuned encoder is ``network.state_dict()``.
    """

    name: ClassVar[str]  # as registered
    modality: ClassVar[Literal["visual", "audio"]]
    Config: ClassVar[type[EncoderConfig]]
    traceable: ClassVar[bool] = False  # encode is a function of its batch's numbers alone, for a given shape: an extraction may freeze it
    version: ClassVar[int] = 1  # raised by hand whenever a code change moves the numbers; part of spec()

    output_shape: tuple[int, ...]  # of one row that prepare makes: a frame or a segment, e.g. (7, 7, 512) or (128,)

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.fingerprints: dict[str, str] = {}  # by setting in ``places``: sha256 of the file that was loaded

    @abstractmethod
    def transform(self) -> dict[str, Any]:
        """What ``prepare`` does to its input, as plain JSON."""

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
        """(N, *input) -> (N, *output_shape), float32, under ``torch.inference_mode`` by the caller."""


class VisualEncoder(Encoder):
    modality = "visual"
    sees: ClassVar[Literal["frame", "segment"]] = "frame"  # what one row of its input is

    @property
    def memory_format(self) -> torch.memory_format:
        """In which weights and images are best held: channels last, where convolutions are up to twice as fast (benchmarks/RESULTS.md).
        Tensors of video have no such format."""
        images = all(parameter.dim() < 5 for parameter in self.parameters())
        return torch.channels_last if images else torch.contiguous_format

    @property
    def frames(self) -> Literal["mean", "keep"]:
        """What becomes of several outputs of one segment: their mean is stored, or all of them, (F / T, *output_shape)."""
        return "mean"

    @abstractmethod
    def prepare(self, frames: Tensor, per_segment: int = 1) -> Tensor:
        """RGB frames (F, H, W, 3) uint8 of whole segments, ``per_segment`` each -> float32: resize, crop, normalise.

        (F, 3, h, w), a row per frame; or (T, 3, per_segment, h, w), a row per segment, where the encoder sees its frames together.
        """


class AudioEncoder(Encoder):
    modality = "audio"

    @abstractmethod
    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """Mono (L,) float32 in [-1, 1] at ``sample_rate`` Hz -> (T, *input), one example per segment.

        Resamples to the encoder's own rate; audio shorter than the clip is padded with silence, never refused.
        """


ENCODERS: Registry[type[Encoder]] = Registry("encoder")


def create(name: str, **config) -> Encoder:
    """Build the registered encoder ``name`` in eval mode, its weights loaded, gradients off.

    Raises:
        UnknownName: no such encoder.
        pydantic.ValidationError: a setting the encoder does not know, or out of range.
        PipelineError: weights that are missing or do not fit; says where it looked.
    """
    encoder_class = ENCODERS.get(name)
    encoder = encoder_class(encoder_class.Config(**config))
    encoder.eval().requires_grad_(False)
    return encoder
