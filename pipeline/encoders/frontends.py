"""The exact audio front ends: waveform -> log-mel, as the published networks were trained on them.

Off-the-shelf mel spectrograms do not reproduce them (torchaudio's defaults are up to 4.5 off VGGish's), so both are written out.
All functions are batched over leading dimensions, run on the waveform's device (which must know float64: the CPU or CUDA) and return
float32. Inside they compute in float64: beside a loud tone, float32 transforms leave errors of 1e-3 in quiet bands.
Shape letters: L samples, F frames, N examples (patches) of 96 frames.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

VGGISH_RATE = 16_000  # Hz
VGGISH_WINDOW = 400  # samples, 25 ms
VGGISH_HOP = 160  # samples, 10 ms
VGGISH_FFT = 512
PATCH_FRAMES = 96
PATCH_SAMPLES = (PATCH_FRAMES - 1) * VGGISH_HOP + VGGISH_WINDOW  # 15,600 samples: 0.975 s, since the last frame is 25 ms long

CNN14_RATE = 32_000  # Hz
CNN14_FFT = 1024
CNN14_HOP = 320

MEL_BANDS = 64
_SLANEY_STEP = math.log(6.4) / 27.0  # mel per factor 6.4 above 1 kHz


def vggish_frames(waveform: Tensor, offset: float = 0.01) -> Tensor:
    """Log-mel frames of VGGish and (``offset`` 0.001) YAMNet.

    Periodic Hann window of 400 samples, hop 160, neither padded nor centred; rfft of 512; magnitude; 64 HTK mel bands
    of 125-7500 Hz whose triangles are linear in mel; log(mel + offset).
    Source: Hershey et al., ICASSP 2017; tensorflow/models research/audioset/vggish (mel_features.py).

    Args:
        waveform: (..., L), float in [-1, 1], 16 kHz, L >= 400.
        offset: added before the logarithm.

    Returns:
        (..., F, 64) float32, natural logarithm, F = 1 + (L - 400) // 160.

    Raises:
        TypeError: the waveform is not floating point.
    """
    waveform = _as_float64(waveform)
    window = torch.hann_window(VGGISH_WINDOW, periodic=True, dtype=torch.float64).to(waveform)
    frames = waveform.unfold(-1, VGGISH_WINDOW, VGGISH_HOP) * window
    magnitude = torch.fft.rfft(frames, n=VGGISH_FFT).abs()
    return torch.log(magnitude @ _vggish_mel_matrix().to(waveform) + offset).float()


def vggish_logmel(waveform: Tensor, hop: float = 0.96, offset: float = 0.01) -> Tensor:
    """Log-mel examples of 96 frames (0.96 s), the input of VGGish and (``offset`` 0.001) YAMNet.

    An incomplete last example is dropped, as in the published code; audio too short for a single one is padded with silence.
    10 s give 10 examples at either hop, but at 0.96 example 9 starts at 8.64 s, not at 9 s.

    Args:
        waveform: (..., L), float in [-1, 1], 16 kHz.
        hop: seconds from one example to the next, a multiple of 0.01.
        offset: added before the logarithm.

    Returns:
        (..., N, 96, 64) float32, N >= 1.

    Raises:
        TypeError: the waveform is not floating point.
        ValueError: ``hop`` is not a positive multiple of 10 ms.
    """
    hop_frames = round(hop * 100)
    if hop_frames < 1 or not math.isclose(hop_frames / 100, hop):
        raise ValueError(f"hop must be a positive multiple of 0.01 s, got {hop}")
    missing = max(0, PATCH_SAMPLES - waveform.shape[-1])
    frames = vggish_frames(functional.pad(waveform, (0, missing)), offset)
    return frames.unfold(-2, PATCH_FRAMES, hop_frames).transpose(-1, -2).contiguous()


def cnn14_logmel(waveform: Tensor) -> Tensor:
    """Log-mel frames of PANNs' Cnn14.

    STFT of 1024 with a periodic Hann window, hop 320, centred with reflection; power; 64 bands of 50-14000 Hz on Slaney's scale
    with Slaney's area normalisation; 10 log10 max(x, 1e-10), reference 1, no top_db.
    Source: Kong et al., TASLP 2020; audioset_tagging_cnn (librosa's defaults through torchlibrosa).

    Args:
        waveform: (..., L), float in [-1, 1], 32 kHz; shorter than 1024 samples is padded with silence.

    Returns:
        (..., F, 64) float32, dB, F = 1 + L // 320.

    Raises:
        TypeError: the waveform is not floating point.
    """
    waveform = _as_float64(waveform)
    waveform = functional.pad(waveform, (0, max(0, CNN14_FFT - waveform.shape[-1])))
    return _decibels(waveform, CNN14_FFT, CNN14_HOP, _cnn14_mel_matrix().to(waveform))


def clap_logmel(waveform: Tensor, fft: int, hop: int, matrix: Tensor) -> Tensor:
    """Log-mel frames of CLAP: as :func:`cnn14_logmel` with the given sizes and mel matrix.

    Source: transformers' ClapFeatureExtractor, which follows LAION-AI/CLAP (librosa's and torchaudio's defaults).

    Args:
        waveform: (..., L), float in [-1, 1], L > fft / 2.
        matrix: (fft / 2 + 1, bands) float64, see :func:`mel_matrix`.

    Returns:
        (..., F, bands) float32, dB, F = 1 + L // hop.
    """
    waveform = _as_float64(waveform)
    return _decibels(waveform, fft, hop, matrix.to(waveform))


def mel_matrix(rate: int, fft: int, bands: int, lowest: float, highest: float, scale: str) -> Tensor:
    """Mel matrix (fft / 2 + 1, bands) float64 with triangles linear in Hz.

    Args:
        scale: ``slaney``, Slaney's scale and unit area; ``htk``, HTK's scale, peaks of 1.
    """
    ends = (_slaney_mel(lowest), _slaney_mel(highest)) if scale == "slaney" else (_htk_mel(lowest), _htk_mel(highest))
    mels = np.linspace(*ends, bands + 2)
    edges = _slaney_hertz(mels) if scale == "slaney" else 700.0 * np.expm1(mels / 1127.0)
    matrix = _triangles(np.linspace(0.0, rate / 2, fft // 2 + 1), edges)
    return torch.from_numpy(matrix * (2.0 / (edges[2:] - edges[:-2])) if scale == "slaney" else matrix)


def _decibels(waveform: Tensor, fft: int, hop: int, matrix: Tensor) -> Tensor:
    """Power in mel bands, in dB: periodic Hann window, centred with reflection."""
    half = fft // 2
    flat = functional.pad(waveform.reshape(-1, 1, waveform.shape[-1]), (half, half), mode="reflect")
    window = torch.hann_window(fft, periodic=True, dtype=torch.float64).to(waveform)
    power = torch.fft.rfft(flat.squeeze(1).unfold(-1, fft, hop) * window).abs().square()
    decibels = 10.0 * torch.log10((power @ matrix).clamp(min=1e-10))
    return decibels.reshape(*waveform.shape[:-1], *decibels.shape[-2:]).float()


def _as_float64(waveform: Tensor) -> Tensor:
    if not waveform.is_floating_point():
        raise TypeError(f"the waveform must be floating point in [-1, 1], got {waveform.dtype}")
    return waveform.to(torch.float64)


def _triangles(positions: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Triangular bands over ``positions`` (K,): (K, bands).

    Band b rises from edges[b] to 1 at edges[b+1] and falls to edges[b+2].
    """
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (positions[:, None] - lower) / (centre - lower)
    falling = (upper - positions[:, None]) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


@lru_cache(maxsize=1)
def _vggish_mel_matrix() -> Tensor:
    """VGGish's mel matrix, (257, 64) float64.

    HTK mel = 1127 ln(1 + f / 700), triangles linear in mel, the DC bin zero, no area normalisation.
    """

    def mel(hertz):
        return 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)

    bins = np.linspace(0.0, VGGISH_RATE / 2, VGGISH_FFT // 2 + 1)
    matrix = _triangles(mel(bins), np.linspace(mel(125.0), mel(7500.0), MEL_BANDS + 2))
    matrix[0] = 0.0
    return torch.from_numpy(matrix)


@lru_cache(maxsize=1)
def _cnn14_mel_matrix() -> Tensor:
    """Cnn14's mel matrix, (513, 64) float64.

    Slaney's scale (linear to 1 kHz, 15 mel; then 27 mel per factor 6.4), triangles linear in Hz, unit area.
    """
    return mel_matrix(CNN14_RATE, CNN14_FFT, MEL_BANDS, 50.0, 14_000.0, "slaney")


def _slaney_mel(hertz: float) -> float:
    return hertz * 3.0 / 200.0 if hertz < 1000.0 else 15.0 + math.log(hertz / 1000.0) / _SLANEY_STEP


def _slaney_hertz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(_SLANEY_STEP * (mels - 15.0)))


def _htk_mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)
