"""Waveforms at the rate an encoder was trained on, cut into the windows it looks at."""

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
    """Mono (L,) at ``sample_rate`` -> (ceil(L * target / sample_rate),) float32 at ``target_rate``, in Hz.

    A rate with next to no common divisor with the target is taken for the nearest multiple of 100 Hz (a pitch error under 0.7 %
    from 8 kHz up), because an exact kernel would not fit into memory. Nothing the usual containers hold is concerned.

    Raises:
        PipelineError: not a mono float waveform, or no sensible rate.
    """
    if waveform.dim() != 1 or not waveform.is_floating_point():
        raise PipelineError(f"expected a mono float waveform (L,), got {waveform.dtype} {tuple(waveform.shape)}: mix its channels first")
    if sample_rate < 100:
        raise PipelineError(f"a sample rate of {sample_rate} Hz is no audio: check the file's header")
    divisor = math.gcd(sample_rate, target_rate)
    if (sample_rate // divisor) * (target_rate // divisor) > _LARGEST_KERNEL:
        sample_rate = round(sample_rate / 100) * 100
    waveform = waveform.to(torch.float32)
    if waveform.numel() == 0 or sample_rate == target_rate:
        return waveform
    return audio.resample(waveform, sample_rate, target_rate)


def cut(waveform: Tensor, starts: Tensor, length: int) -> Tensor:
    """Windows of ``length`` samples; beyond the end of the waveform there is silence.

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
    """First sample of each of T segments, (T,) int64; rounded one by one, so that no error adds up."""
    return torch.round(torch.arange(segments, dtype=torch.float64) * segment_seconds * rate).to(torch.int64)
