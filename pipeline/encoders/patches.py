"""The 0.96 s log-mel patches that VGGish and YAMNet look at, laid over the segments of a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.encoders.frontends import PATCH_FRAMES, PATCH_SAMPLES, VGGISH_HOP, VGGISH_RATE, vggish_logmel
from pipeline.encoders.waveform import cut, segment_starts

PATCH_SECONDS = PATCH_FRAMES * VGGISH_HOP / VGGISH_RATE  # 0.96


def segment_patches(waveform: Tensor, segments: int, segment_seconds: float, offset: float) -> Tensor:
    """Patches that start with their segments: one per segment of up to 1.92 s, more in a longer one, end to end.

    In a segment shorter than 0.96 s the patch reaches into the next ones, as UnAV-100's 0.32 s steps have it.

    Args:
        waveform: (L,), 16 kHz; silence is put where it ends too early.
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
    """The first T patches one after another, every 0.96 s, as VGGish's own code cuts them: (T, 1, 96, 64) float32."""
    starts = torch.arange(segments)[:, None] * PATCH_FRAMES * VGGISH_HOP
    return vggish_logmel(cut(waveform, starts, PATCH_SAMPLES), offset=offset).squeeze(-3)
