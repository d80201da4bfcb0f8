"""Health lines on the sound files of a data set (``dataset.sounds``), and the list of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.datasets.base import Row, count_lines
from pipeline.media.sounds import SUFFIXES, inside, sound_beside


def sound_files(sounds: Path | None) -> list[Path]:
    """WAV and FLAC files in a folder and its sub-folders, in order; none without a folder."""
    if sounds is None:
        return []
    return [path for path in _below(sounds) if path.suffix.lower() in SUFFIXES and path.is_file() and inside(path, sounds)]


def _below(sounds: Path) -> list[Path]:
    """Everything in a folder and its sub-folders but what is hidden, in order; linked folders are not entered."""
    found = (Path(parent, name) for parent, folders, names in os.walk(sounds) for name in (*names, *folders) if not name.startswith("."))
    return sorted(found)


def sound_lines(rows: Iterable[Row], sounds: Path | None) -> list[str]:
    """Health lines on clips without a sound file, sound files of several clips, and sound files of none."""
    if sounds is None:
        return []
    films = sorted({row.file for row in rows if row.file})
    of_film = {film: sound_beside(film, sounds) for film in films}
    films_of: dict[Path, list[str]] = {}
    for film, sound in of_film.items():
        if sound is not None:
            films_of.setdefault(sound, []).append(film)
    shared = [f"{sound.name}: {', '.join(films)}" for sound, films in films_of.items() if len(films) > 1]
    linked = [path for path in _below(sounds) if path.is_symlink() and (path.is_dir() or not inside(path, sounds))]
    links = [path.relative_to(sounds).as_posix() for path in linked]
    unused = [path.relative_to(sounds).as_posix() for path in sound_files(sounds) if path not in films_of]
    return [
        *count_lines("clips without a sound file in dataset.sounds", [Path(film).name for film, sound in of_film.items() if sound is None]),
        *count_lines("sound files that several clips have", shared),
        *count_lines("sound files of no clip", unused),
        *count_lines("linked folders in dataset.sounds, and links that lead out of it, left out", links),
    ]
