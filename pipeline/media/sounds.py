"""Read the sound of a clip from a file of its own, WAV or FLAC, through soundfile."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pipeline.media.audio import AUDIBLE_RATES, Audio
from pipeline.media.container import MediaError, describe
from pipeline.media.probe import AudioStream

SUFFIXES = (".wav", ".flac")
BLOCK = 2**16  # samples read at once: what precedes damage is kept


def sound_beside(path: str | os.PathLike[str], sounds: Path | None) -> Path | None:
    """Find the sound file of a clip: of its name, in ``sounds`` or in the same sub-folder there.

    A folder of pictures without ``sounds`` has the file beside it that bears its name. None where there is none. A linked folder is not
    entered, nor a link followed that leads out: no stage would notice that what lies there has changed.
    """
    place = Path(path)
    name = place.name if place.is_dir() else place.stem
    if sounds is None:
        folders = [place.parent] if place.is_dir() else []
    else:
        parts = [part for part in place.parent.parts if part not in (place.anchor, "..")]
        folders = [sounds.joinpath(*parts[first:]) for first in range(len(parts) + 1)]
    candidates = (folder / f"{name}{suffix}" for folder in folders for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES)))
    root = place.parent if sounds is None else sounds
    return next((candidate for candidate in candidates if candidate.is_file() and inside(candidate, root)), None)


def inside(path: Path, root: Path) -> bool:
    """Whether a file below ``root`` lies there itself: behind no linked folder, and no link out of it."""
    linked = any(folder.is_symlink() for folder in path.parents if folder != root and folder.is_relative_to(root))
    return not linked and (not path.is_symlink() or path.resolve().is_relative_to(root.resolve()))


def probe_sound(path: Path) -> AudioStream:
    """State what a sound file holds; it starts with the pictures.

    Raises:
        MediaError: ``unreadable``; it is no WAV or FLAC, or states no audible rate.
    """
    import soundfile

    try:
        found = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise MediaError("unreadable", f"its sound file {path.name} cannot be read: {describe(error)}") from error
    if found.format not in ("WAV", "WAVEX", "FLAC", "RF64") or found.samplerate not in AUDIBLE_RATES:
        raise MediaError("unreadable", f"its sound file {path.name} is {found.format} of {found.samplerate} Hz; give WAV or FLAC")
    codec = f"{found.format.lower()} {found.subtype.lower()}"
    return AudioStream(0, codec, found.samplerate, found.channels, 0.0, found.frames / found.samplerate)


def read_sound(path: Path, start: float, seconds: float) -> Audio:
    """Read ``seconds`` of a sound file from ``start`` on, as :func:`pipeline.media.audio.read_audio` does of a film.

    Raises:
        MediaError: ``unreadable`` when no sample decodes.
    """
    import soundfile

    errors: list[str] = []
    parts: list[np.ndarray] = []
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = int(file.samplerate)
            length, first = round(seconds * rate), round(start * rate)
            if first < file.frames:
                file.seek(first)
            missing = length if first < file.frames else 0
            while missing and len(block := file.read(min(BLOCK, missing), dtype="float64", always_2d=True)):
                parts.append(np.nan_to_num(np.clip(block.mean(axis=1), -1.0, 1.0)).astype(np.float32))
                missing -= len(block)
    except (soundfile.SoundFileError, OSError) as error:
        errors.append(f"{path.name}: {describe(error)}")
        if not parts:
            raise MediaError("unreadable", f"no sample of its sound file decodes: {errors[0]}") from error
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    waveform, covered = np.zeros(length, np.float32), np.zeros(length, bool)
    waveform[: len(samples)], covered[: len(samples)] = samples, True
    return Audio(waveform, rate, covered, tuple(errors))
