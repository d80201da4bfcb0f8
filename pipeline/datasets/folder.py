"""Your own clips: a directory of video files, searched with its subdirectories; labels are optional.

A clip's id is its path below the directory, so equal names in two folders stay two clips. Labels come from a CSV file named by
``dataset.annotations`` with the columns clip, split (train, val, test, none), label, onset, offset (seconds) and, if wanted, modality
(av, audio, visual; av when absent); a clip may have any number of lines. A line of the split negative (a clip without an event, which
weak supervision alone trains on) leaves label, onset and offset empty. Without labels, ``annotations`` is the clips directory itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pipeline.datasets.base import DATASETS, DatasetSettings, Event, Index, Modality, Row, Split, count_lines
from pipeline.datasets.files import MEDIA_SUFFIXES
from pipeline.datasets.tables import read_records
from pipeline.errors import InputProblems

COLUMNS = ("clip", "split", "label", "onset", "offset")


@DATASETS.register("folder")
def read_folder(settings: DatasetSettings) -> Index:
    """Read every regular file below ``clips`` with a video's ending, in order of path; ``decode`` checks the content.

    Raises:
        InputProblems: every malformed line of the labels at once.
    """
    root = settings.clips.resolve()
    paths = {path.relative_to(settings.clips).as_posix(): path for path in sorted(settings.clips.rglob("*")) if path.is_file()}
    hidden_or_outside = [clip for clip, path in paths.items() if path.name.startswith(".") or not path.resolve().is_relative_to(root)]
    no_video = [clip for clip, path in paths.items() if clip not in hidden_or_outside and path.suffix.lower() not in MEDIA_SUFFIXES]
    health = count_lines("hidden files and links that lead out of the directory, left out", hidden_or_outside)
    health += count_lines("files without a video's ending, left out", no_video)
    for clip in (*hidden_or_outside, *no_video):
        del paths[clip]
    if settings.annotations.resolve() == root:
        return Index([Row(clip, "none", path.as_posix()) for clip, path in paths.items()], [], health)
    splits, events, classes = read_labels(settings.annotations, settings.segments * settings.segment_seconds, set(paths))
    health += count_lines("files without a label line", [clip for clip in paths if clip not in splits])
    rows = [Row(clip, splits.get(clip, "none"), path.as_posix(), tuple(events.get(clip, ()))) for clip, path in paths.items()]
    return Index(rows, classes, health)


def read_labels(path: Path, seconds: float, clips: set[str]) -> tuple[dict[str, Split], dict[str, list[Event]], list[str]]:
    """Read splits by clip, events by clip, and classes sorted by name from a label CSV.

    Args:
        seconds: length of a clip.

    Raises:
        InputProblems: every malformed line at once.
    """
    problems: list[tuple[int, str]] = []
    splits: dict[str, Split] = {}
    events: dict[str, list[Event]] = {}
    if not path.is_file():
        raise InputProblems(str(path), ["no such file; without labels, set dataset.annotations to the clips directory"])
    for line, record in read_records(path, COLUMNS, problems):
        try:
            clip, split, event = parse_record(record, seconds, clips)
            if splits.setdefault(clip, split) != split:
                raise ValueError(f"{clip} is in {splits[clip]} as well as in {split}")
            if event is not None:
                events.setdefault(clip, []).append(event)
        except ValueError as error:
            problems.append((line, str(error)))
    if problems:
        raise InputProblems(str(path), [f"line {line}: {problem}" for line, problem in problems])
    classes = sorted({event.label for of_clip in events.values() for event in of_clip})
    return splits, events, classes


def parse_record(record: dict[str, str], seconds: float, clips: set[str]) -> tuple[str, Split, Event | None]:
    """Parse one label line; a negative clip has no event.

    Raises:
        ValueError: the line is malformed.
    """
    clip, split, label = record["clip"], record["split"], record["label"].strip()
    modality = record.get("modality") or "av"
    if clip not in clips:
        raise ValueError(f"there is no clip {clip!r} in the directory")
    if split not in get_args(Split):
        raise ValueError(f"split {split!r} is not one of {', '.join(get_args(Split))}")
    if modality not in get_args(Modality):
        raise ValueError(f"modality {modality!r} is not one of {', '.join(get_args(Modality))}")
    if split == "negative":
        if label or record["onset"] or record["offset"]:
            raise ValueError("a clip of the split negative has no event; leave label, onset and offset empty")
        return clip, split, None  # type: ignore[return-value]
    if not label:
        raise ValueError("the label is empty")
    try:
        onset, offset = float(record["onset"]), float(record["offset"])
    except ValueError:
        raise ValueError(f"onset {record['onset']!r} or offset {record['offset']!r} is not a number") from None
    if not 0 <= onset < offset <= seconds:
        raise ValueError(f"the span {onset:g}-{offset:g} s does not lie in 0-{seconds:g} s with onset before offset")
    return clip, split, Event(modality, label, onset, offset)  # type: ignore[arg-type, return-value]
