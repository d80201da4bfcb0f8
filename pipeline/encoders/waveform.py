"""Resample waveforms to an encoder's rate and cut them into its windows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchaudio import functional as audio

from pipeline.errors import PipelineError

RESAMPLER = "torchaudio windowed sinc (Hann, 6 zero crossings, rolloff 0.99)"

# torchaudio builds a kernel of about (source / gcd) x (target / gcd) taps; rates such as 11,127 Hz would take gigabytes
_LARGEST_KERNEL = 40_000_000


def resample(waveform: Tensor, sample_rate: int, target_rate: int) -> Tensor:
    """Resample mono (L,) to (ceil(L * target / sample_rate),) float32; rates in Hz.

    A rate with a very small common divisor with the target is rounded to the nearest multiple of 100 Hz (a pitch error under 0.7 %
    from 8 kHz up), because the exact kernel would not fit into memory. The usual rates are not affected.

    Raises:
        PipelineError: the waveform is not mono and float, or the rate is under 100 Hz.
    """
    if waveform.dim() != 1 or not waveform.is_floating_point():
        raise PipelineError(f"expected a mono float waveform (L,), got {waveform.dtype} {tuple(waveform.shape)}: mix its channels first")
    if sample_rate < 100:
        raise PipelineError(f"a sample rate of {sample_rate} Hz is not audio: check the file's header")
    divisor = math.gcd(sample_rate, target_rate)
    if (sample_rate // divisor) * (target_rate // divisor) > _LARGEST_KERNEL:
        sample_rate = round(sample_rate / 100) * 100
    waveform = waveform.to(torch.float32)
    if waveform.numel() == 0 or sample_rate == target_rate:
        return waveform
    return audio.resample(waveform, sample_rate, target_rate)


def cut(waveform: Tensor, starts: Tensor, length: int) -> Tensor:
    """Cut windows of ``length`` samples, padded with silence beyond the end of the waveform.

    Args:
        waveform: (L,).
        starts: (...,), int64, first sample of each window, >= 0.
        length: samples per window.

    Returns:
        (..., length).
    """
    needed = int(starts.max()) + length
    padded = torch.nn.functional.pad(waveform, (0, max(0, needed - waveform.shape[0])))
    return padded.unfold(0, length, 1)[starts]


def segment_starts(segments: int, segment_seconds: float, rate: int) -> Tensor:
    """First sample of each of T segments, (T,) int64; each is rounded alone, so errors do not add up."""
    return torch.round(torch.arange(segments, dtype=torch.float64) * segment_seconds * rate).to(torch.int64)
