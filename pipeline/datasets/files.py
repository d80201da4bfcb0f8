"""Find the file of each id in researchers' copies of a data set.

Names that are understood, with any video's ending and in any sub-directory (copies are often cut up by split or by class):
    <id>                            AVE's and UnAV-100's own layout; for LLP the id holds its span, <video>_30_40
    <id>_<start>, <id>_<start>_<end>
                                    cut by a download script: in seconds (30, 000030, 30.000) or milliseconds (30000_40000)
    <video>                         for an id <video>_<start>_<end>: named without the span, like LLP's published feature files
    <title> [<id>]                  yt-dlp's default
Two different files for one id are ambiguous: they are reported and neither is taken. Links that lead out of the directory are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.cache import file_sha256
from pipeline.text import numbered

MEDIA_SUFFIXES = frozenset([".mp4", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".flv", ".m4v", ".ts", ".3gp", ".ogv", ".wmv"])
_NUMBER = r"\d{1,9}(?:\.\d{1,6})?"
_TITLED = re.compile(r".* \[(?P<id>[^\[\]]+)\]", re.DOTALL)


@dataclass(frozen=True)
class Matches:
    """The files found for a list of ids.

    files: id -> path, or None.
    ambiguous: id -> its different files.
    by_video: ids whose file is named without their span.
    outside: links that lead out of the directory.
    irregular: pipes, devices and sockets, which must not be opened.
    """

    files: dict[str, str | None]
    ambiguous: dict[str, list[str]]
    by_video: list[str]
    outside: list[str]
    irregular: list[str]

    def findings(self) -> list[tuple[str, list[str]]]:
        """Title and entries of each line for the health report; entries may be empty."""
        several = [f"{clip}: {', '.join(paths)}" for clip, paths in self.ambiguous.items()]
        return [
            ("ids with several different files, none taken", several),
            ("ids whose file is named without their span; each must hold just that span", self.by_video),
            ("links that lead out of the clips directory, refused", self.outside),
            ("pipes, devices and sockets with a video's ending, left out", self.irregular),
        ]


def match_files(clips: Path, ids: Iterable[str]) -> Matches:
    """Find the file of every id below ``clips``, ignoring hidden files and directories."""
    wanted = list(dict.fromkeys(ids))
    known, by_video = set(wanted), _by_video(wanted)
    paths, outside, irregular = _media_below(clips)
    found: dict[str, list[str]] = {}
    bare: dict[str, list[str]] = {}
    for path in paths:
        stem = stem_of(path)
        if clip := _id_in(stem, known):
            found.setdefault(clip, []).append(path)
        elif clip := by_video.get(stem):
            bare.setdefault(clip, []).append(path)
    for clip in bare:  # a name with the span comes first
        found.setdefault(clip, bare[clip])
    different = {clip: _different(candidates) for clip, candidates in found.items()}
    ambiguous = {clip: candidates for clip, candidates in sorted(different.items()) if len(candidates) > 1}
    files = {clip: different[clip][0] if clip in different and clip not in ambiguous else None for clip in wanted}
    by_bare = [clip for clip in sorted(bare) if found[clip] is bare[clip] and clip not in ambiguous]
    return Matches(files, ambiguous, by_bare, outside, irregular)


def stem_of(path: str) -> str:
    """A film's name without its ending, or a directory's name."""
    name = os.path.basename(path)
    return os.path.splitext(name)[0] if os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES else name


def holds_pictures(names: Collection[str]) -> bool:
    """Whether a directory with these files is a film in numbered pictures.

    A film among them says no: they may be its thumbnails.
    """
    return bool(numbered(names)) and not any(os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES for name in names)


def _media_below(clips: Path) -> tuple[list[str], list[str], list[str]]:
    """List video files, links that lead out, and non-files named like a video; each sorted.

    A directory of numbered pictures is a film. Linked directories are not entered, so no cycle is followed.
    """
    root = clips.resolve()
    inside, outside, irregular = [], [], []
    for parent, directories, names in os.walk(clips):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        if holds_pictures(names) and Path(parent) != clips:
            inside.append(parent.removeprefix("./"))
            directories.clear()
            continue
        for name in directories:
            path = os.path.join(parent, name).removeprefix("./")
            if leads_out(path, root):
                outside.append(path)
        for name in names:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in MEDIA_SUFFIXES:
                continue
            path = os.path.join(parent, name).removeprefix("./")
            if leads_out(path, root):
                outside.append(path)
            elif _irregular(path):
                irregular.append(path)
            else:
                inside.append(path)
    return sorted(inside), sorted(outside), sorted(irregular)


def leads_out(path: str, root: Path) -> bool:
    """Whether a path, found below ``root`` without following links, is a link to elsewhere; ``root`` is resolved."""
    return os.path.islink(path) and not Path(path).resolve().is_relative_to(root)


def _irregular(path: str) -> bool:
    """Whether ``path`` is not a file but, e.g., a pipe, whose reader would wait for ever."""
    return os.path.exists(path) and not os.path.isfile(path)


def _id_in(stem: str, known: set[str]) -> str | None:
    """The id in ``known`` that a file's name stands for; the whole name first, for ids that end in numbers."""
    titled = _TITLED.fullmatch(stem)
    for name in (stem, titled["id"] if titled else stem):
        if name in known:
            return name
        for base, start, end in _spans(name):
            if base in known:
                return base
            spelled = next((clip for clip in _spellings(base, start, end) if clip in known), None)
            if spelled:
                return spelled
    return None


def _spans(name: str) -> list[tuple[str, float, float | None]]:
    """List every reading of ``name`` as base, start and end: ids hold underscores and digits themselves."""
    readings = []
    for pattern in (rf"(.+)_({_NUMBER})_({_NUMBER})", rf"(.+)_({_NUMBER})"):
        if match := re.fullmatch(pattern, name, re.DOTALL):
            end = float(match[3]) if match.lastindex == 3 else None
            if end is None or end > float(match[2]):
                readings.append((match[1], float(match[2]), end))
    return readings


def _spellings(base: str, start: float, end: float | None) -> list[str]:
    """Spell a span as LLP's ``<video>_<start>_<end>``, if the file's name has zeros, decimals or milliseconds."""
    if end is None:
        return []
    scaled = [(start, end)] + ([(start / 1000, end / 1000)] if end - start >= 1000 else [])
    return [f"{base}_{first:.6g}_{last:.6g}" for first, last in scaled]


def _by_video(ids: list[str]) -> dict[str, str]:
    """Map video -> id, for ids ``<video>_<start>_<end>`` that are the only one of their video."""
    of_video: dict[str, list[str]] = {}
    for clip in ids:
        for base, _, end in _spans(clip):
            if end is not None:
                of_video.setdefault(base, []).append(clip)
    return {video: clips[0] for video, clips in of_video.items() if len(clips) == 1 and video not in ids}


def _different(paths: list[str]) -> list[str]:
    """Keep one path per content: equal files in two folders are the same clip."""
    if len(paths) == 1:
        return paths
    contents: dict[tuple[int, str], str] = {}
    for path in paths:
        try:
            contents.setdefault((os.path.getsize(path), file_sha256(path)), path)
        except OSError:
            contents.setdefault((-1, path), path)
    return list(contents.values())
