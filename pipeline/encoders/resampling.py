"""Antialiased resize of uint8 frames on any device, equal to the byte to torchvision's on a CPU.

On a CPU torchvision resizes uint8 tensors as Pillow does: the columns first, then the rows, each result rounded to a grey level, with
16-bit weights. On a GPU it resizes in float32, both ways at once, and rounds once: up to two grey levels apart. Here that integer
arithmetic is written out in terms of operations that every device has and that leave no room for rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]

_REACH = {"bilinear": 1.0, "bicubic": 2.0}  # of the kernel, in pixels of the smaller picture
_SHARPNESS = -0.5  # of the bicubic kernel, as in Pillow
_LARGEST_WEIGHT = 1 << 15  # weights are 16-bit integers
_MOST_BITS = 22  # of a weight after the point


def resize(frames: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """Resize frames (F, H, W, 3) uint8 to (F, height, width, 3) uint8."""
    return _along(_along(frames, 2, width, interpolation), 1, height, interpolation)


def _along(frames: Tensor, axis: int, size: int, interpolation: Interpolation) -> Tensor:
    if frames.shape[axis] == size:
        return frames
    places, weights, bits = _on_device(frames.shape[axis], size, interpolation, frames.device)
    shape = (*frames.shape[:axis], size, *frames.shape[axis + 1 :])
    total = torch.full(shape, 1 << (bits - 1), dtype=torch.int32, device=frames.device)  # one half: the shift below rounds
    for place, weight in zip(places, weights, strict=True):
        total += frames.index_select(axis, place) * weight.view(-1, *[1] * (frames.dim() - 1 - axis))
    return (total >> bits).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=256)
def _on_device(size: int, target: int, interpolation: Interpolation, device: torch.device) -> tuple[Tensor, Tensor, int]:
    """:func:`taps` as tensors on the device, one row a tap; kept, since many frames have the same size."""
    places, weights, bits = taps(size, target, interpolation)
    rows = (torch.from_numpy(np.ascontiguousarray(each.T)).to(device, non_blocking=True) for each in (places, weights))
    return next(rows), next(rows), bits


def taps(size: int, target: int, interpolation: Interpolation) -> tuple[np.ndarray, np.ndarray, int]:
    """Find which pixels make up each pixel of a resized line, and how much each counts.

    Args:
        size: pixels of the line, at least 1.
        target: pixels of the resized line, at least 1.

    Returns:
        (target, K) int64, places; (target, K) int32, weights; and the number of the weights' bits after the point.
    """
    scale = size / target
    reach = _REACH[interpolation] * max(scale, 1.0)
    centre = scale * (np.arange(target) + 0.5)
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + reach + 0.5).astype(np.int64), size) - first
    count = np.clip(count, 0, 2 * math.ceil(reach) + 1)
    taken = np.arange(count.max())
    weights = _kernel(((first - centre)[:, None] + taken + 0.5) / max(scale, 1.0), interpolation) * (taken < count[:, None])
    weights /= weights.sum(1, keepdims=True)
    bits = 0
    while bits < _MOST_BITS and 0.5 + weights.max() * (1 << (bits + 1)) < _LARGEST_WEIGHT:
        bits += 1
    whole = np.trunc(weights * (1 << bits) + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(first[:, None] + taken, size - 1), whole, bits


def _kernel(distance: np.ndarray, interpolation: Interpolation) -> np.ndarray:
    x, a = np.abs(distance), _SHARPNESS
    if interpolation == "bilinear":
        return np.maximum(0.0, 1.0 - x)
    near, far = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
