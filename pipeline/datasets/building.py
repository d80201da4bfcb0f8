"""Build the index of a data set: read its annotations, and cut its films into windows."""

from __future__ import annotations

from dataclasses import replace

from pipeline.datasets.base import DATASETS, NO_CLIPS, UNCUT, DatasetSettings, Index
from pipeline.datasets.sounds import sound_lines
from pipeline.datasets.windows import all_windows, first_windows
from pipeline.errors import InputProblems
from pipeline.media.length import film_lengths
from pipeline.media.settings import MediaSettings
from pipeline.media.windowing import Windowing


def build_index(settings: DatasetSettings, media: MediaSettings | None = None) -> Index:
    """Read the annotations and find the files; films of one's own are cut into windows as ``settings.windows`` says.

    Args:
        media: limits under which films are opened to find their length (windows: all); None: the defaults.

    Raises:
        UnknownName: no such kind.
        InputProblems: every malformed line of the annotations at once, with file and line.
    """
    reader = DATASETS.get(settings.kind)
    if not settings.clips.is_dir():
        advice = f"put the clips there, correct the path, or set it to {NO_CLIPS} to import features without clips"
        raise InputProblems("dataset.clips", [f"{settings.clips} is not a directory; {advice}"])
    if settings.sounds is not None and not settings.sounds.is_dir():
        raise InputProblems("dataset.sounds", [f"{settings.sounds} is not a directory; correct the path, or set it to null"])
    index = replace(reader(settings), segment_rule=settings.segment_rule)
    index = replace(index, health=[*index.health, *sound_lines(index.rows, settings.sounds)])
    if settings.kind in UNCUT:
        return index
    windowing = Windowing(settings.segments, settings.segment_seconds)
    if settings.windows == "first":
        rows, health = first_windows(index.rows, windowing)
    else:
        media = (media or MediaSettings()).with_sounds(settings.sounds)
        lengths = film_lengths(sorted({row.file for row in index.rows if row.file}), media)
        rows, health = all_windows(index.rows, windowing, {file: length.seconds for file, length in lengths.items()})
    return replace(index, rows=rows, health=[*index.health, *health])
