"""Read the sound of a window: mono, at the file's own rate, on the same clock as the pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media.container import MediaError, lists_every_packet
from pipeline.media.probe import Probe
from pipeline.media.stream import TICK, Packets, decoded_frames

JITTER_SECONDS = 0.1  # smaller errors of time stamps leave no gap in the waveform; FFmpeg's own tools ignore them altogether
AUDIBLE_RATES = range(1_000, 768_001)  # Hz; a header with another rate is damaged


@dataclass(frozen=True)
class Audio:
    """The sound of one window.

    waveform: (L,) float32 in [-1, 1], mean of the channels; L = round(seconds * sample_rate); silence where nothing was decoded.
    sample_rate: Hz, the file's own.
    covered: (L,) bool, True where a sample was decoded.
    errors: what the decoder complained about, one line each.
    pauses: (from, to) in seconds on the clip's clock where the file itself states a gap.
    """

    waveform: np.ndarray
    sample_rate: int
    covered: np.ndarray
    errors: tuple[str, ...] = ()
    pauses: tuple[tuple[float, float], ...] = ()

    @property
    def covered_seconds(self) -> float:
        return float(self.covered.sum()) / self.sample_rate

    @property
    def end(self) -> float:
        """Seconds from the window's start to the last decoded sample; 0 without any."""
        return float(len(self.covered) - np.argmax(self.covered[::-1])) / self.sample_rate if self.covered.any() else 0.0


def read_audio(path: str | os.PathLike[str], probe: Probe, start: float, seconds: float) -> Audio:
    """Read ``seconds`` of sound from ``start`` on the clip's clock.

    Raises:
        MediaError: ``no_audio`` without a usable stream; ``unreadable`` when no sample of the stream decodes or its rate is not audible.
    """
    if probe.audio is None:
        raise MediaError("no_audio", "the file has no usable audio stream")
    packets = Packets()
    rate = probe.audio.rate
    length = round(seconds * rate)
    waveform, covered = np.zeros(length, np.float32), np.zeros(length, bool)
    decoded, upcoming = 0, None
    spans: list[tuple[float, float]] = []
    # A second of run-up after a seek: the first frames of MP3 and AAC depend on the ones before.
    begin = max(0.0, start - 1.0)
    for moment, frame in decoded_frames(path, probe.audio.index, probe.clock, begin, frame_seconds(rate), packets, probe.audio.track):
        if decoded == 0 and frame.sample_rate != rate and frame.sample_rate > 0:
            rate = frame.sample_rate  # implicit SBR: the header states half of what the decoder gives
            length = round(seconds * rate)
            waveform, covered = np.zeros(length, np.float32), np.zeros(length, bool)
        if rate not in AUDIBLE_RATES:
            raise MediaError("unreadable", f"its {probe.audio.codec} stream states a rate of {rate} Hz, which is not an audio rate")
        if frame.sample_rate != rate:
            packets.errors.append(f"the sample rate changes from {rate} to {frame.sample_rate} Hz")
            continue
        samples = mono(frame)
        decoded += len(samples)
        spans.append((moment, moment + len(samples) / rate))
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
    return Audio(waveform, rate, covered, tuple(packets.errors), _pauses(path, probe, packets, spans))


def _pauses(
    path: str | os.PathLike[str], found: Probe, packets: Packets, spans: list[tuple[float, float]]
) -> tuple[tuple[float, float], ...]:
    """Find the gaps that the file states: between the parts of a joined file, and in an MP4's table.

    A gap in the table is a packet that lasts longer than most and than its sound (``spans``), or that is due after the one before ends.
    """
    assert found.audio is not None
    joins = [(start - found.clock, end - found.clock) for start, end in (found.audio.track.pauses if found.audio.track else ())]
    due = packets.times
    if len(due) < 2 or not spans:
        return tuple(joins)
    edges = np.append(due, due[-1] + packets.lasting[int(np.argmax(packets.due))])
    lasts = np.diff(edges)
    starts, ends = np.asarray(spans).T
    gaps = []
    for place in np.flatnonzero(lasts > 1.5 * np.median(lasts[:-1])):
        inside = ends[(starts >= edges[place] - TICK) & (starts < edges[place + 1] - TICK)]
        if len(inside) and inside.max() < edges[place + 1] - TICK:
            gaps.append((float(inside.max()), float(edges[place + 1])))
    if gaps and lists_every_packet(path, found.container, found.audio.index):
        return (*joins, *gaps)
    return tuple(joins)


def frame_seconds(rate: int) -> float:
    """Length of a common audio frame (1024 samples), for frames without a time."""
    return 1024 / rate


def mono(frame: Any) -> np.ndarray:
    """Samples (n,) float32 in [-1, 1] of a decoded frame: the mean of its channels; NaN becomes silence."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        scaled = (samples.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(samples.dtype, np.integer):
        scaled = samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    else:
        scaled = samples
    mean = scaled[0] + 0.0 if len(scaled) == 1 else scaled.mean(axis=0, dtype=np.float64)  # adding 0 turns -0.0 into 0.0, as a mean does
    bounded = np.minimum(np.maximum(mean, -1.0), 1.0).astype(np.float32)  # for a thousand samples, np.clip takes longer to start
    bounded[np.isnan(bounded)] = 0.0
    return bounded
