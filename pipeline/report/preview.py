"""A preview of a decoded clip of any length: small pictures of some segments, and the loudness over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

PEAK_SECONDS = 0.02
PICTURE_HEIGHT = 160  # pixels


@dataclass(frozen=True)
class Preview:
    """Small pictures and loudness; letters: P pictures, Q loudness values, F frames, L samples.

    segments: (P,) int, the segment each picture stands for (its middle frame), ascending.
    pictures: (P, H, W, 3) uint8 RGB.
    peaks: (Q,) float32 in [0, 1], the largest magnitude of the sound in each :data:`PEAK_SECONDS`.
    """

    segments: np.ndarray
    pictures: np.ndarray
    peaks: np.ndarray


def preview(frames: np.ndarray, waveform: np.ndarray, sample_rate: int, segments: int, every: int = 1, first: int = 0) -> Preview:
    """The preview of one decoded window.

    Args:
        frames: (F, H, W, 3) uint8, evenly spread over the ``segments``.
        waveform: (L,) float32 at ``sample_rate`` Hz.
        segments: number of segments in the window.
        every: keep the picture of each segment whose number in the whole file is a multiple of this.
        first: number of the window's first segment in the whole file.
    """
    kept = [segment for segment in range(segments) if (first + segment) % every == 0]
    pictures = [_small(frames[(2 * segment + 1) * len(frames) // (2 * segments)]) for segment in kept]
    shape = (0, *_small(frames[0]).shape)
    return Preview(
        np.array([first + segment for segment in kept], dtype=np.int64),
        np.stack(pictures) if pictures else np.zeros(shape, np.uint8),
        _peaks(waveform, sample_rate),
    )


def silence(seconds: float) -> Preview:
    """The preview of a window that could not be decoded: no picture, no sound."""
    return Preview(np.zeros(0, np.int64), np.zeros((0, 1, 1, 3), np.uint8), np.zeros(round(seconds / PEAK_SECONDS), np.float32))


def join(parts: Sequence[Preview]) -> Preview:
    """Join previews end to end."""
    shown = [part for part in parts if len(part.segments)] or list(parts[:1])
    return Preview(
        np.concatenate([part.segments for part in shown]),
        np.concatenate([part.pictures for part in shown]),
        np.concatenate([part.peaks for part in parts]),
    )


def _small(image: np.ndarray) -> np.ndarray:
    """Resize (H, W, 3) uint8 to :data:`PICTURE_HEIGHT`, keeping its aspect ratio (up to 4 : 1)."""
    height, width = image.shape[:2]
    size = (max(1, min(4 * PICTURE_HEIGHT, round(width * PICTURE_HEIGHT / height))), PICTURE_HEIGHT)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX if height > PICTURE_HEIGHT else Image.Resampling.BILINEAR))


def _peaks(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    count = max(1, round(len(waveform) / sample_rate / PEAK_SECONDS))
    edges = np.linspace(0, len(waveform), count, endpoint=False).astype(int)
    return np.maximum.reduceat(np.abs(waveform), edges).astype(np.float32) if len(waveform) else np.zeros(count, np.float32)
