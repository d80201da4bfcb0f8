"""The sound of a window of a clip: mono, at the file's own rate, on the same clock as the pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media.probe import MediaError, Probe
from pipeline.media.stream import Packets, decoded_frames

JITTER_SECONDS = 0.1  # times that wander by less do not tear the waveform apart; FFmpeg's own tools ignore such wandering altogether
AUDIBLE_RATES = range(1_000, 768_001)  # Hz; a header with another rate is damaged: what follows could neither be heard nor resampled


@dataclass(frozen=True)
class Audio:
    """The sound of one window.

    waveform: (L,) float32 in [-1, 1], mean of the channels; L = round(seconds * sample_rate); silence where nothing was decoded.
    sample_rate: Hz, the file's own.
    covered: (L,) bool, True where a sample was decoded.
    errors: what the decoder complained about, one line each.
    """

    waveform: np.ndarray
    sample_rate: int
    covered: np.ndarray
    errors: tuple[str, ...] = ()

    @property
    def covered_seconds(self) -> float:
        return float(self.covered.sum()) / self.sample_rate

    @property
    def end(self) -> float:
        """Seconds from the window's start to the last decoded sample; 0 without any."""
        return float(len(self.covered) - np.argmax(self.covered[::-1])) / self.sample_rate if self.covered.any() else 0.0


def read_audio(path: str | os.PathLike[str], probe: Probe, start: float, seconds: float) -> Audio:
    """The sound from ``start`` on the clip's clock, ``seconds`` long.

    Raises:
        MediaError: ``no_audio`` without a usable stream; ``unreadable`` when not one sample of the stream decodes, or at no audible rate.
    """
    if probe.audio is None:
        raise MediaError("no_audio", "the file has no usable audio stream")
    packets = Packets()
    rate = probe.audio.rate
    length = round(seconds * rate)
    waveform, covered = np.zeros(length, np.float32), np.zeros(length, bool)
    decoded, upcoming = 0, None
    # A second of run-up after a seek: the first frames of MP3 and AAC depend on the ones before.
    begin = max(0.0, start - 1.0)
    for moment, frame in decoded_frames(path, probe.audio.index, probe.clock, begin, frame_seconds(rate), packets):
        if decoded == 0 and frame.sample_rate != rate and frame.sample_rate > 0:
            rate = frame.sample_rate  # implicit SBR: the header states half of what the decoder gives
            length = round(seconds * rate)
            waveform, covered = np.zeros(length, np.float32), np.zeros(length, bool)
        if rate not in AUDIBLE_RATES:
            raise MediaError("unreadable", f"its {probe.audio.codec} stream states a rate of {rate} Hz, which is no sound's")
        if frame.sample_rate != rate:
            packets.errors.append(f"the sample rate changes from {rate} to {frame.sample_rate} Hz")
            continue
        samples = mono(frame)
        decoded += len(samples)
        position = round((moment - start) * rate)
        if upcoming is not None and abs(position - upcoming) <= JITTER_SECONDS * rate:
            position = upcoming
        upcoming = position + len(samples)
        first, last = max(0, position), min(length, upcoming)
        if first < last:
            waveform[first:last] = samples[first - position : last - position]
            covered[first:last] = True
        if position >= length:
            break
    if not decoded:
        raise MediaError("unreadable", f"no sample of its {probe.audio.codec} stream decodes: {(packets.errors or ['no packet'])[0]}")
    return Audio(waveform, rate, covered, tuple(packets.errors))


def frame_seconds(rate: int) -> float:
    """Length of a common audio frame (1024 samples), for frames without a time."""
    return 1024 / rate


def mono(frame: Any) -> np.ndarray:
    """Samples (n,) float32 in [-1, 1] of a decoded frame: mean of its channels; what is not a number becomes silence."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        scaled = (samples.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(samples.dtype, np.integer):
        scaled = samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    else:
        scaled = samples
    mean = np.nan_to_num(scaled.mean(axis=0, dtype=np.float64), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(mean, -1.0, 1.0).astype(np.float32)
