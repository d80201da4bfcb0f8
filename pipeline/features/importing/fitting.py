"""Published arrays of one clip at their own rate -> T segments."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool1d, interpolate

CLAP_ROWS = 64  # HTS-AT's last map: 2 rows of frequency by 32 of time, of 10 s
CLAP_STEPS = 1024


def segments_of(seconds: float | None, segments: int, segment_seconds: float) -> int:
    """How many of T segments a clip of that length has, the last one perhaps in part; at least 1. None: all T."""
    if seconds is None or math.isnan(seconds):
        return segments
    return max(1, min(segments, math.ceil(seconds / segment_seconds - 1e-6)))


def average(values: NDArray[np.floating], own: int, segments: int) -> NDArray[np.floating]:
    """(n, D) at any even rate -> (T, D): adaptive average over the clip's ``own`` segments, zeros after them.

    The rule is torch's adaptive_avg_pool1d: segment i is the mean of rows floor(i n / own) to ceil((i + 1) n / own), as UWAV brings
    UnAV-100's features to one a second.
    """
    result = np.zeros((segments, values.shape[1]), dtype=values.dtype)
    result[:own] = adaptive_avg_pool1d(torch.from_numpy(values.T[None].copy()), own)[0].numpy().T
    return result


def clap_map(values: NDArray[np.floating], segments: int) -> NDArray[np.floating]:
    """VALOR's CLAP map (64, D) of 10 s -> (T, D).

    VALOR reads the 64 rows as 2 by 32, resizes these bicubically to 2 by 1024, projects every point linearly, takes the mean of the two
    rows and averages adaptively to T. Resizing and averaging are weights that sum to one, so they commute with the projection: done here,
    before it, they leave the method's Linear(D -> width) the same function of the published numbers (up to rounding).
    """
    grid = torch.from_numpy(values.T.reshape(1, values.shape[1], 2, CLAP_ROWS // 2).astype(np.float32))
    points = interpolate(grid, size=(2, CLAP_STEPS), mode="bicubic", align_corners=False)
    return adaptive_avg_pool1d(points.mean(2), segments)[0].numpy().T
