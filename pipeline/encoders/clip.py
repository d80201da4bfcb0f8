"""CLIP's image tower (Radford et al., ICML 2021) through timm: a frame's embedding in the space of images and texts.

OpenAI's weights were trained with QuickGELU: timm's ``..._clip_quickgelu_...`` variants compute it, and other variants are refused for
them. The files could not be downloaded here: the network was checked for names, shapes and parameter count with random weights, the
transforms against timm's and torchvision's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.encoders.base import ENCODERS
from pipeline.encoders.images import check_frames
from pipeline.encoders.timm_models import TimmConfig, TimmEncoder

_FRAMES_AT_ONCE = 16  # as float32 tensors of full size, twelve bytes a pixel


class ClipConfig(TimmConfig):
    """Settings of CLIP's image tower.

    preprocessing: ``published``, timm's own transform, as CLIP was trained (short side, bicubic, central square); ``valor``, that of
        VALOR's label generator (the whole frame squeezed to a square, bilinear, without antialiasing, in float32).
    """

    model: str = Field("vit_large_patch14_clip_quickgelu_224.openai", description="a CLIP image tower of timm.list_models('*clip*')")
    pool: Literal["map", "average", "pooled", "projected"] = "projected"
    preprocessing: Literal["published", "valor"] = Field("published", description="published: CLIP's own | valor: VALOR's label generator")


@dataclass(frozen=True)
class SqueezeTransform:
    """Frames (F, H, W, 3) uint8 -> (F, 3, size, size) float32.

    To [0, 1], bilinear without antialiasing, (x - mean) / std.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, frames: Tensor) -> Tensor:
        check_frames(frames)
        prepared = torch.empty(len(frames), 3, self.size, self.size)
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        for part, place in zip(frames.split(_FRAMES_AT_ONCE), prepared.split(_FRAMES_AT_ONCE), strict=True):
            pixels = part.permute(0, 3, 1, 2).float() / 255
            squeezed = functional.interpolate(pixels, (self.size, self.size), mode="bilinear", align_corners=False, antialias=False)
            torch.div(squeezed - mean, std, out=place)
        return prepared

    def spec(self) -> dict[str, Any]:
        how = {"crop": False, "interpolation": "bilinear", "resampler": "torch, float32, no antialias"}
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), **how}


@ENCODERS.register("clip")
class ClipImage(TimmEncoder):
    """CLIP's image tower: (D,) projected to the joint space, before any normalisation (768 for ViT-L/14, 512 for ViT-B).

    ``weights: pretrained`` looks for models/pretrained/MODEL.safetensors, as timm publishes it or as open_clip does.
    """

    name = "clip"
    Config = ClipConfig
    config: ClipConfig

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        published = self.image_transform
        self.squeeze = SqueezeTransform(published.size, published.mean, published.std) if config.preprocessing == "valor" else None

    def transform(self) -> dict[str, Any]:
        return self.squeeze.spec() if self.squeeze else super().transform()

    def prepare(self, frames: Tensor, per_segment: int = 1) -> Tensor:
        """Transform RGB frames (F, H, W, 3) uint8 to (F, 3, size, size) float32."""
        return self.squeeze(frames) if self.squeeze else super().prepare(frames, per_segment)

    @property
    def prepares_on_device(self) -> bool:
        return self.squeeze is None  # in float32 a GPU would round otherwise
