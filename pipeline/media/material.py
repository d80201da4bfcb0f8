"""Probe, read and hash what a clip is made of: a film or numbered pictures, and perhaps a sound file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.cache import fingerprint
from pipeline.media.audio import Audio, read_audio
from pipeline.media.container import MediaError
from pipeline.media.pictures import pictures_in, probe_pictures, read_pictures
from pipeline.media.probe import SLACK_SECONDS, Probe, probe
from pipeline.media.settings import MediaSettings
from pipeline.media.sounds import probe_sound, read_sound, sound_beside
from pipeline.media.video import Frames, read_frames, scaled_size


def parts_of(path: str, sounds: Path | None) -> list[str]:
    """The files that a clip is read from: its film alone, or pictures in order, then its sound file."""
    sound = sound_beside(path, sounds)
    try:
        pictures = list(pictures_in(path).values()) if os.path.isdir(path) else [path]
    except MediaError:
        pictures = []
    return [*pictures, *([os.fspath(sound)] if sound is not None else [])]


def content_sha256(path: str, sounds: Path | None, sha256: Callable[[str], str]) -> str:
    """Hash of all that a clip is read from: the film's own, or one over pictures and sound file.

    Args:
        sha256: hash of one file.

    Raises:
        OSError: a file cannot be read.
    """
    parts = parts_of(path, sounds)
    if parts == [path] and sounds is None:
        return sha256(path)
    sound = sound_beside(path, sounds)
    # Of a picture the number counts; where film, folder and sound file lie, and how they are called, does not.
    named = [(os.path.basename(part) if os.path.isdir(path) and part != str(sound) else "", sha256(part)) for part in parts]
    return fingerprint("pictures" if os.path.isdir(path) else "film", "sound" if sound is not None else "no sound", named)


def probe_material(path: str | os.PathLike[str], settings: MediaSettings) -> Probe:
    """Read what a film, or a folder of pictures, and its sound file state; see :func:`pipeline.media.probe.probe`."""
    found = probe_pictures(path, settings) if os.path.isdir(path) else probe(path, settings)
    sound = sound_beside(path, settings.sounds)
    if sound is None and settings.sounds is None:
        return found
    return replace(found, audio=probe_sound(sound) if sound is not None else None)


def read_material_frames(path: str | os.PathLike[str], times: np.ndarray, found: Probe, settings: MediaSettings) -> Frames:
    """Read the picture shown at each of ``times``; see :func:`pipeline.media.video.read_frames`."""
    if found.container != "pictures" or found.video is None:
        return read_frames(path, times, found, settings.decoder, settings.frame_size)
    return read_pictures(path, times, found, scaled_size(found.video.upright_size, settings.frame_size))


def read_material_audio(path: str | os.PathLike[str], found: Probe, start: float, seconds: float, settings: MediaSettings) -> Audio:
    """Read the sound of a window from the sound file, or from the film; see :func:`pipeline.media.audio.read_audio`."""
    sound = sound_beside(path, settings.sounds)
    return read_audio(path, found, start, seconds) if sound is None else read_sound(sound, start, seconds)


def no_sound(path: str | os.PathLike[str], settings: MediaSettings) -> str:
    """Why a clip has no sound, as a phrase."""
    if settings.sounds is not None and sound_beside(path, settings.sounds) is None:
        return "no WAV or FLAC of its name in dataset.sounds"
    return "no usable audio stream"


def unequal_lengths(path: str | os.PathLike[str], found: Probe, settings: MediaSettings) -> str:
    """Say that a sound file is longer or shorter than the pictures, with both lengths; "" for one as long."""
    if found.audio is None or found.video is None or sound_beside(path, settings.sounds) is None:
        return ""
    pictures, sound = found.video.duration or found.duration, found.audio.duration
    if pictures is None or sound is None or abs(pictures - sound) <= max(SLACK_SECONDS, 1 / found.video.rate):
        return ""
    return f"its sound file lasts {sound:.2f} s, its pictures {pictures:.2f} s; both are taken to start together"
