"""Resample one clip's published array from its own rate to T segments."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool1d, interpolate

CLAP_ROWS = 64  # HTS-AT's last map: 2 rows of frequency by 32 of time, of 10 s
CLAP_STEPS = 1024


def segments_of(seconds: float | None, segments: int, segment_seconds: float) -> int:
    """Count the segments that a clip covers, the last one perhaps in part: 1 to T; unknown length: T."""
    if seconds is None or math.isnan(seconds):
        return segments
    return max(1, min(segments, math.ceil(seconds / segment_seconds - 1e-6)))


def average(values: NDArray[np.floating], own: int, segments: int) -> NDArray[np.floating]:
    """Average (n, D) at any even rate to (T, D): adaptively over the clip's ``own`` segments, zeros after them.

    The rule is torch's adaptive_avg_pool1d: segment i is the mean of rows floor(i n / own) to ceil((i + 1) n / own). UWAV brings
    UnAV-100's features to one a second in the same way.
    """
    result = np.zeros((segments, values.shape[1]), dtype=values.dtype)
    result[:own] = adaptive_avg_pool1d(torch.from_numpy(values.T[None].copy()), own)[0].numpy().T
    return result


def first_rows(values: NDArray[np.floating], segments: int) -> NDArray[np.floating]:
    """Take the first T rows of (n, D) as they are, with zeros where there are fewer."""
    result = np.zeros((segments, values.shape[1]), dtype=values.dtype)
    result[: len(values)] = values[:segments]
    return result


def clap_map(values: NDArray[np.floating], segments: int) -> NDArray[np.floating]:
    """Reduce VALOR's CLAP map of 10 s, (64, D), to (T, D).

    VALOR reads the 64 rows as 2 by 32, resizes these bicubically to 2 by 1024, projects every point linearly, takes the mean of the two
    rows and averages adaptively to T. Resizing and averaging are weighted sums with weights that add up to one, so they commute with the
    projection: with both done here, the method's Linear(D -> width) is the same function of the published numbers (up to rounding).
    """
    grid = torch.from_numpy(values.T.reshape(1, values.shape[1], 2, CLAP_ROWS // 2).astype(np.float32))
    points = interpolate(grid, size=(2, CLAP_STEPS), mode="bicubic", align_corners=False)
    return adaptive_avg_pool1d(points.mean(2), segments)[0].numpy().T
