"""The 0.96 s log-mel patches that VGGish and YAMNet take, laid over the segments of a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.encoders.frontends import PATCH_FRAMES, PATCH_SAMPLES, VGGISH_HOP, VGGISH_RATE, vggish_logmel
from pipeline.encoders.waveform import cut, segment_starts

PATCH_SECONDS = PATCH_FRAMES * VGGISH_HOP / VGGISH_RATE  # 0.96


def segment_patches(waveform: Tensor, segments: int, segment_seconds: float, offset: float) -> Tensor:
    """Cut patches from each segment's start, end to end: one in segments under 1.92 s, more in longer ones.

    In a segment shorter than 0.96 s, such as UnAV-100's 0.32 s steps, the patch reaches into the next segments.

    Args:
        waveform: (L,), 16 kHz; padded with silence where it ends too early.
        segments: T.
        segment_seconds: length of a segment.
        offset: added before the logarithm, see :func:`vggish_logmel`.

    Returns:
        (T, P, 96, 64) float32, P = max(1, floor(segment_seconds / 0.96)).
    """
    per_segment = max(1, int(segment_seconds / PATCH_SECONDS + 1e-9))
    within = torch.arange(per_segment) * PATCH_FRAMES * VGGISH_HOP
    starts = segment_starts(segments, segment_seconds, VGGISH_RATE)[:, None] + within
    return vggish_logmel(cut(waveform, starts, PATCH_SAMPLES), offset=offset).squeeze(-3)


def consecutive_patches(waveform: Tensor, segments: int, offset: float) -> Tensor:
    """Cut the first T patches, one every 0.96 s, as VGGish's own code does: (T, 1, 96, 64) float32."""
    starts = torch.arange(segments)[:, None] * PATCH_FRAMES * VGGISH_HOP
    return vggish_logmel(cut(waveform, starts, PATCH_SAMPLES), offset=offset).squeeze(-3)
