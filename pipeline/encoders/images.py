"""Shared parts of the image encoders: settings, the transform of decoded frames, and the form of the output.

The transform works on uint8 tensors with torchvision's antialiased resize, without PIL. torchvision's and timm's published
transforms resize PIL images; measured on the same frames, the two differ by at most one grey level (of 255) for bilinear and two for
bicubic, 0.001 to 0.005 on average (tests/encoders/test_images.py). On a GPU the transform gives the same bytes as on a CPU with AVX2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from pipeline.encoders.base import PretrainedConfig, VisualEncoder
from pipeline.encoders.resampling import Interpolation, resize
from pipeline.errors import PipelineError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Longer frames are first cut to this aspect ratio: the crop drops their ends anyway, and a 1 x 1000 frame would grow to gigabytes.
_LONGEST_ASPECT = 8

_FRAMES_AT_ONCE = 64  # on a device: the whole numbers of the resize take nine bytes a pixel and channel


class FrameConfig(PretrainedConfig):
    """Size and crop of an encoder's input.

    image_size: side of the network's square input, pixels.
    resize: length of the frame's short side before the crop; by default in the proportion the weights were tested with.
    crop: take the central square; false squeezes the whole frame into the square instead, so that nothing at the sides is lost.
    """

    image_size: int | None = Field(None, ge=32, le=2048)
    resize: int | None = Field(None, ge=32, le=4096)
    crop: bool = True


class ImageConfig(FrameConfig):
    """:class:`FrameConfig` and the pooling of maps and frames.

    pool: ``map`` keeps the last map, (h, w, D); ``average`` takes its mean, (D,).
    frames: ``mean`` stores the mean over the frames of a segment; ``keep`` stores every frame's features.
    """

    pool: Literal["map", "average"] = "map"
    frames: Literal["mean", "keep"] = "mean"


@dataclass(frozen=True)
class ImageTransform:
    """Frames (F, H, W, 3) uint8 -> network input (F, 3, size, size) float32.

    Antialiased resize, central crop, (x / 255 - mean) / std.
    ``resize`` is the short side before the crop, never under ``size``; ``crop`` false resizes both sides to ``size`` at once.
    """

    size: int
    resize: int
    crop: bool
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.crop and self.resize < self.size:
            raise PipelineError(f"resize {self.resize} is smaller than image_size {self.size}: raise it, leave it out, or set crop: false")

    def __call__(self, frames: Tensor) -> Tensor:
        check_frames(frames)
        if frames.shape[0] == 0:
            return torch.empty(0, 3, self.size, self.size)
        from torchvision.transforms import InterpolationMode  # here, because it takes a second and every stage reads the settings
        from torchvision.transforms.v2 import functional as image

        pixels = frames.permute(0, 3, 1, 2)
        mode = InterpolationMode(self.interpolation)
        if self.crop:
            short = min(pixels.shape[-2:])
            pixels = image.center_crop(pixels, [min(side, short * _LONGEST_ASPECT) for side in pixels.shape[-2:]])
            pixels = image.center_crop(image.resize(pixels, [self.resize], interpolation=mode, antialias=True), [self.size])
        else:
            pixels = image.resize(pixels, [self.size, self.size], interpolation=mode, antialias=True)
        return image.normalize(image.to_dtype(pixels, torch.float32, scale=True), list(self.mean), list(self.std)).contiguous()

    def on_device(self, frames: Tensor) -> Tensor:
        """Transform frames where they lie, (F, H, W, 3) uint8 to (F, 3, size, size) float32, channels last.

        Only queues work on a GPU. The bytes are those of :meth:`__call__` on a CPU with AVX2. (On other CPUs torchvision resizes bilinearly
        in float32, at most one grey level apart.)
        """
        check_frames(frames)
        mean, std = _normalisation(self.mean, self.std, frames.device)
        prepared = torch.empty(len(frames), self.size, self.size, 3, device=frames.device)
        for part, place in zip(frames.split(_FRAMES_AT_ONCE), prepared.split(_FRAMES_AT_ONCE), strict=True):
            pixels = self._resized(part).to(torch.float32).mul_(1.0 / 255)
            torch.div(pixels.sub_(mean), std, out=place)
        return prepared.permute(0, 3, 1, 2)

    def _resized(self, frames: Tensor) -> Tensor:
        """(F, H, W, 3) uint8 -> (F, size, size, 3) uint8, as :meth:`__call__` resizes and crops."""
        if not self.crop:
            return resize(frames, self.size, self.size, self.interpolation)
        short = min(frames.shape[1:3])
        frames = _central(frames, *(min(side, short * _LONGEST_ASPECT) for side in frames.shape[1:3]))
        height, width = (self.resize if side == short else int(self.resize * side / short) for side in frames.shape[1:3])
        return _central(resize(frames, height, width, self.interpolation), self.size, self.size)

    def spec(self) -> dict[str, Any]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), "resampler": "torchvision v2, uint8, antialias"}


def check_frames(frames: Tensor) -> None:
    if frames.dim() != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or 0 in frames.shape[1:3]:
        raise PipelineError(f"expected RGB frames (F, H, W, 3) uint8, got {frames.dtype} of shape {tuple(frames.shape)}")


def _central(frames: Tensor, height: int, width: int) -> Tensor:
    """Cut the central part out of frames (F, H, W, 3) that are at least as large."""
    top, left = (round((whole - part) / 2.0) for whole, part in zip(frames.shape[1:3], (height, width), strict=True))
    return frames[:, top : top + height, left : left + width]


@lru_cache(maxsize=64)
def _normalisation(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation as tensors (3,) on the device; copying them for every pass would wait for the last."""
    return torch.tensor(mean).to(device), torch.tensor(std).to(device)


class ImageEncoder(VisualEncoder):
    """An image network applied frame by frame. Subclasses set ``image_transform`` and ``output_shape`` in ``__init__``."""

    traceable = True
    config: ImageConfig
    image_transform: ImageTransform

    @abstractmethod
    def feature_map(self, batch: Tensor) -> Tensor:
        """(N, 3, size, size) -> (N, D, h, w)."""

    def transform(self) -> dict[str, Any]:
        return self.image_transform.spec()

    @property
    def frames(self) -> Literal["mean", "keep"]:
        return self.config.frames

    def prepare(self, frames: Tensor, per_segment: int = 1) -> Tensor:
        """Transform RGB frames (F, H, W, 3) uint8 to (F, 3, size, size) float32; small frames are enlarged."""
        return self.image_transform(frames)

    @property
    def prepares_on_device(self) -> bool:
        return type(self).prepare is ImageEncoder.prepare  # a subclass with a transform of its own stays on the CPU

    def prepare_on_device(self, rows: Tensor) -> Tensor:
        return self.image_transform.on_device(rows)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, 3, size, size) -> (N, h, w, D), or (N, D) with ``pool: average``."""
        maps = self.feature_map(batch)
        return maps.mean(dim=(2, 3)) if self.config.pool == "average" else maps.permute(0, 2, 3, 1).contiguous()

    def _shape(self, height: int, width: int, channels: int) -> tuple[int, ...]:
        return (channels,) if self.config.pool == "average" else (height, width, channels)


def scaled_resize(config: FrameConfig, size: int, crop_share: float) -> int:
    """Short side before the crop: ``resize`` as set, else ``size`` over the weights' crop share (224 / 256: 0.875)."""
    return config.resize if config.resize is not None else round(size / crop_share)


def visible_share(transform: Mapping[str, Any], height: int, width: int) -> tuple[float, float]:
    """Shares, in (0, 1], of a frame's height and width that the network sees: the central part.

    Args:
        transform: as :meth:`ImageTransform.spec` writes it into the spec of an encoder or of a feature store. Without a crop in it, the
            network sees the whole frame.
    """
    if not transform.get("crop", False):
        return 1.0, 1.0
    side = transform["size"] / transform["resize"] * min(height, width)  # of the crop, in pixels of the frame
    return min(1.0, side / height), min(1.0, side / width)
