"""Compare what was decoded with what the file states, and mark the valid segments.

A clip whose container states less than the window is whole; a clip that decodes to less than its container states is not.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from pipeline.media.audio import Audio
from pipeline.media.probe import SLACK_SECONDS, AudioStream, Probe, VideoStream
from pipeline.media.video import Frames


@dataclass(frozen=True)
class Window:
    """T segments of ``segment_seconds`` from ``start`` (seconds on the clip's clock), ``per_segment`` frames each."""

    start: float
    segments: int
    segment_seconds: float
    per_segment: int
    frame_offset: float

    @property
    def seconds(self) -> float:
        return self.segments * self.segment_seconds

    @property
    def end(self) -> float:
        return self.start + self.seconds

    def times(self) -> np.ndarray:
        """(T*F,) seconds at which frames are sampled."""
        steps = np.arange(self.segments * self.per_segment) + self.frame_offset
        return self.start + steps * (self.segment_seconds / self.per_segment)


@dataclass(frozen=True)
class Coverage:
    """Decoded shares and valid segments of one window.

    video, audio: decoded share, in [0, 1], of what the file states for the window; 1 where it states nothing, 0 for absent audio.
    whole: nothing stated is missing from the streams that were read.
    seconds: part of the window inside the clip.
    visual_valid, audio_valid: (T,) bool, at least half of the segment was decoded.
    lack: why segments may be invalid, as a phrase about the file.
    """

    video: float
    audio: float
    whole: bool
    seconds: float
    visual_valid: np.ndarray
    audio_valid: np.ndarray
    lack: str = ""


def measure(found: Probe, window: Window, frames: Frames, audio: Audio | None) -> Coverage:
    """Compare the frames and audio read for ``window`` with what ``found`` states."""
    assert found.video is not None  # read_frames has refused such a file
    audio_read_to = window.start + audio.end if audio else 0.0
    video_end = _stated_end(found, found.video, window, frames.end, audio_read_to)
    video, video_whole = _video_share(found, found.video, window, frames, video_end)
    visual_valid = _majority(frames.covered, window.segments)
    clip_end = found.duration if found.duration is not None else max(frames.end, audio_read_to)
    seconds = float(np.clip(clip_end - window.start, 0.0, window.seconds))
    if audio is None or found.audio is None:
        audio_share, audio_whole, audio_valid = 0.0, True, np.zeros(window.segments, bool)
    else:
        audio_end = _stated_end(found, found.audio, window, audio_read_to, frames.end)
        audio_share, audio_whole = _audio_share(found.audio, window, audio, audio_end)
        audio_valid = _majority(audio.covered, window.segments)
        audio_valid[0] |= seconds < window.segment_seconds / 2 and bool(audio.covered.any())
    visual_valid[0] |= seconds < window.segment_seconds / 2  # a clip shorter than half a segment still shows something
    lack = "ends inside the window" if seconds < window.seconds - SLACK_SECONDS else "has no picture or no sound in a part of the window"
    return Coverage(video, audio_share, video_whole and audio_whole, seconds, visual_valid, audio_valid, lack)


def _stated_end(found: Probe, stream: VideoStream | AudioStream, window: Window, read_to: float, other_read_to: float) -> float:
    """Stated end of ``stream`` in seconds on the clip's clock; ``read_to`` where nothing is stated.

    A stream without a duration of its own is expected to last as long as the container, unless the other stream does: then the
    file is whole and this stream is the shorter one.
    """
    if stream.duration is not None:
        return stream.start + stream.duration
    if found.duration is None or other_read_to >= min(found.duration, window.end) - SLACK_SECONDS:
        return read_to
    return found.duration


def _video_share(found: Probe, video: VideoStream, window: Window, frames: Frames, stated_end: float) -> tuple[float, bool]:
    """Covered share of the sampled times inside [stream start, stated end) and outside stated pauses, and whether all are covered."""
    times = window.times()
    expected = (times >= video.start) & (times < stated_end - max(SLACK_SECONDS, 1 / video.rate))
    for start, end in video.track.pauses if video.track else ():
        expected &= (times < start - found.clock) | (times >= end - found.clock)
    if not expected.any():
        return 1.0, True
    covered = frames.covered[expected]
    return float(covered.mean()), bool(covered.all())


def _audio_share(stream: AudioStream, window: Window, audio: Audio, stated_end: float) -> tuple[float, bool]:
    """Covered share of [stream start, stated end) inside the window, and whether less than the slack is missing."""
    first, last = (np.clip(edge - window.start, 0.0, window.seconds) for edge in (stream.start, stated_end))
    expected = float(last - first)
    if expected <= SLACK_SECONDS:
        return 1.0, True
    covered = audio.covered[round(first * audio.sample_rate) : round(last * audio.sample_rate)]
    covered_seconds = float(covered.sum()) / audio.sample_rate
    if expected - covered_seconds > SLACK_SECONDS and audio.pauses:  # gaps that the file itself states are not missing
        covered = covered.copy()
        for pause in audio.pauses:
            begin, stop = (float(np.clip(edge - window.start, first, last)) for edge in pause)
            expected -= stop - begin
            covered[round((begin - first) * audio.sample_rate) : round((stop - first) * audio.sample_rate)] = False
        covered_seconds = float(covered.sum()) / audio.sample_rate
        if expected <= SLACK_SECONDS:
            return 1.0, True
    return min(1.0, covered_seconds / expected), expected - covered_seconds <= SLACK_SECONDS


def _majority(covered: np.ndarray, segments: int) -> np.ndarray:
    """Whether at least half of each of T equal parts of ``covered`` is True, (T,) bool."""
    edges = np.round(np.linspace(0, len(covered), segments + 1)).astype(int)
    return np.array([covered[first:last].mean() >= 0.5 if last > first else False for first, last in itertools.pairwise(edges)])
