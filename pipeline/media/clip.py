"""Decode one window of a clip into frames, waveform, masks and a status; never raises for bad media."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.media.audio import AUDIBLE_RATES, Audio
from pipeline.media.container import MediaError, describe
from pipeline.media.coverage import Coverage, Window, measure
from pipeline.media.material import no_sound, probe_material, read_material_audio, read_material_frames, unequal_lengths
from pipeline.media.probe import Probe
from pipeline.media.settings import MediaSettings
from pipeline.media.video import scaled_size

GOOD = frozenset({"ok", "padded", "silent", "partial"})
BAD = frozenset({"missing", "unreadable", "no_video", "no_audio", "truncated", "refused", "crashed", "timeout"})
SILENT_RATE = 16000  # Hz of the zeros that replace a missing stream


@dataclass(frozen=True)
class DecodedClip:
    """One decoded window of T segments.

    status: ``ok`` | ``padded`` (the clip, or one of its streams, ends or pauses inside the window: last frame repeated, silence, masked) |
        ``silent`` (no sound, or none that decodes: zeros) | ``partial`` (damaged, or less decoded than the file states, but enough),
        or one of BAD.
    reason: one line; for ``ok`` empty, or that a sound file is longer than its pictures.
    frames: (T*F, H, W, 3) uint8 RGB; None for a bad clip.
    waveform: (L,) float32 mono at ``sample_rate`` Hz, L = round(T * segment_seconds * sample_rate); None for a bad clip.
    visual_valid, audio_valid: (T,) bool, False where more than half of the segment was not decoded.
    video_coverage, audio_coverage: decoded share, in [0, 1], of what the file states for the window.
    seconds: part of the window that lies inside the clip.
    facts: width, height (upright, before scaling), fps, duration, rotation, container, codecs, tracks ("1 of 2"): plain JSON.
    lasting: whether the verdict follows from file and settings alone; False where another try, e.g. with more memory, may differ.
    """

    status: str
    reason: str
    frames: np.ndarray | None = None
    waveform: np.ndarray | None = None
    sample_rate: int = 0
    visual_valid: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    audio_valid: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    video_coverage: float = 0.0
    audio_coverage: float = 0.0
    seconds: float = 0.0
    decoder: str = ""
    facts: dict[str, int | float | str | bool | None] = field(default_factory=dict)
    lasting: bool = True

    @property
    def good(self) -> bool:
        return self.status in GOOD


def decode_clip(
    path: str | os.PathLike[str], *, start: float, segments: int, segment_seconds: float, settings: MediaSettings
) -> DecodedClip:
    """Read ``segments`` segments from ``start`` seconds into the clip: a film or a folder of numbered pictures.

    Raises:
        PipelineError: the settings give no whole number of frames in a segment.
        ValueError: a window that is empty or starts before 0.
    """
    if segments < 1 or not segment_seconds > 0 or not start >= 0 or not math.isfinite(start):
        raise ValueError(f"not a window: start={start}, segments={segments}, segment_seconds={segment_seconds}")
    window = Window(start, segments, segment_seconds, settings.frames_per_segment(segment_seconds), settings.frame_offset)
    found: Probe | None = None
    lasting = True
    try:
        found = probe_material(path, settings)
        return _decode(path, found, window, settings)
    except MediaError as error:
        status, reason = error.status, error.reason
    except MemoryError:
        status, reason, lasting = "refused", f"needs more memory than media.memory_mb = {settings.memory_mb}", False
    except Exception as error:  # any error that a damaged file causes in a decoder is a fact about the file
        status, reason = "unreadable", f"{type(error).__name__}: {describe(error)}"
    return DecodedClip(status, reason, facts=facts(found) if found else {}, lasting=lasting)


def _decode(path: str | os.PathLike[str], found: Probe, window: Window, settings: MediaSettings) -> DecodedClip:
    _check_contents(path, found, window, settings)
    frames = read_material_frames(path, window.times(), found, settings)
    audio, silence = _read_audio_or_silence(path, found, window, settings)
    coverage = measure(found, window, frames, audio)
    errors = (*frames.errors, *(audio.errors if audio else ()))
    status, reason = _verdict(coverage, audio, silence, errors, settings)
    reason = "; ".join(part for part in (reason, unequal_lengths(path, found, settings)) if part)
    measured: dict[str, Any] = {"video_coverage": coverage.video, "audio_coverage": coverage.audio, "seconds": coverage.seconds}
    if status in BAD:
        return DecodedClip(status, reason, decoder=frames.decoder, facts=facts(found), **measured)
    stated = found.audio.rate if found.audio else 0
    rate = audio.sample_rate if audio else (stated if stated in AUDIBLE_RATES else SILENT_RATE)
    return DecodedClip(
        status=status,
        reason=reason,
        frames=frames.images,
        waveform=audio.waveform if audio else np.zeros(round(window.seconds * rate), np.float32),
        sample_rate=rate,
        visual_valid=coverage.visual_valid,
        audio_valid=coverage.audio_valid,
        decoder=frames.decoder,
        facts=facts(found),
        **measured,
    )


def _verdict(coverage: Coverage, audio: Audio | None, silence: str, errors: tuple[str, ...], settings: MediaSettings) -> tuple[str, str]:
    """Status and reason of a clip, after both streams were read."""
    decoded = f"decoded {coverage.video:.1%} of the picture and {coverage.audio:.1%} of the sound that the file states for the window"
    damage = f"; {len(errors)} packets did not decode, picture and sound near them may be damaged: {errors[0]}" if errors else ""
    if coverage.video < settings.min_coverage or (audio is not None and coverage.audio < settings.min_coverage):
        return "truncated", decoded + (damage or "; the data ends early")
    if audio is None:
        return "silent", silence if coverage.whole and not errors else f"{silence}; {decoded}{damage}"
    if errors or not coverage.whole:
        return "partial", decoded + damage
    if not (coverage.visual_valid.all() and coverage.audio_valid.all()):
        total, picture, sound = len(coverage.visual_valid), int(coverage.visual_valid.sum()), int(coverage.audio_valid.sum())
        return "padded", f"the file {coverage.lack}: picture in {picture}, sound in {sound} of {total} segments"
    return "ok", ""


def facts(found: Probe) -> dict[str, int | float | str | bool | None]:
    """The facts of a probe that the index keeps, as plain JSON; upright size in pixels, duration in seconds."""
    height, width = found.video.upright_size if found.video else (None, None)
    return {
        "container": found.container,
        "duration": found.duration,
        "width": width,
        "height": height,
        "fps": found.video.rate if found.video else None,
        "video_track": found.video.choice if found.video else None,
        "audio_track": found.audio.choice if found.audio else None,
        "rotation": found.video.rotation if found.video else None,
        "video_codec": found.video.codec if found.video else None,
        "audio_codec": found.audio.codec if found.audio else None,
        "sample_rate": found.audio.rate if found.audio else None,
        "channels": found.audio.channels if found.audio else None,
    }


def _check_contents(path: str | os.PathLike[str], found: Probe, window: Window, settings: MediaSettings) -> None:
    """Check the required streams, that the window starts inside the clip, and that its arrays fit the limit.

    Raises:
        MediaError: ``no_video``, ``no_audio`` or ``refused``.
    """
    if found.video is None:
        raise MediaError("no_video", "the file has no moving picture (cover art does not count)")
    if found.audio is None and settings.on_missing_audio == "drop":
        raise MediaError("no_audio", f"the file has {no_sound(path, settings)}")
    if found.duration is not None and window.start >= found.duration > 0:
        raise MediaError("no_video", f"the window starts at {window.start:g} s, after the clip's end at {found.duration:.3f} s")
    height, width = scaled_size(found.video.upright_size, settings.frame_size)
    rate = found.audio.rate if found.audio else SILENT_RATE
    decoded = window.segments * window.per_segment * height * width * 3 + round(window.seconds * rate) * 4
    if decoded > settings.max_decoded_bytes:
        limit = settings.max_decoded_bytes
        raise MediaError("refused", f"{decoded} bytes of frames ({width}x{height}) and sound, over media.max_decoded_bytes = {limit}")


def _read_audio_or_silence(path: str | os.PathLike[str], found: Probe, window: Window, settings: MediaSettings) -> tuple[Audio | None, str]:
    if found.audio is None:
        return None, no_sound(path, settings)
    try:
        return read_material_audio(path, found, window.start, window.seconds, settings), ""
    except MediaError as error:
        if settings.on_missing_audio == "drop":
            raise MediaError("no_audio", error.reason) from error
        return None, error.reason
