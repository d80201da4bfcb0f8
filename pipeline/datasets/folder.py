"""Your own films: a directory of video files or folders of numbered pictures, searched with its subdirectories; labels are optional.

A clip's id is its path below the directory, so equal names in two folders stay two clips. Labels come from a CSV file named by
``dataset.annotations`` (:mod:`pipeline.datasets.labels`), which names each film's split. Without labels, ``annotations`` is the clips
directory itself. Films longer than ``segments * segment_seconds`` are cut afterwards, as ``dataset.windows`` says.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.datasets.base import DATASETS, DatasetSettings, Event, Index, Row, Split, count_lines
from pipeline.datasets.files import MEDIA_SUFFIXES, holds_pictures, leads_out
from pipeline.datasets.labels import ClipNames, read_labels
from pipeline.errors import InputProblems


@DATASETS.register("folder")
def read_folder(settings: DatasetSettings) -> Index:
    """Read every regular file below ``clips`` with a video's ending, in order of path; ``decode`` checks the content.

    Raises:
        InputProblems: every malformed line of the labels at once.
    """
    paths, health = find_films(settings.clips)
    if settings.annotations.resolve() == settings.clips.resolve():
        return Index([Row(clip, "none", path.as_posix()) for clip, path in paths.items()], [], health)
    if not settings.annotations.is_file():
        advice = "no such file; without labels, set dataset.annotations to the clips directory"
        raise InputProblems(str(settings.annotations), [advice])
    splits, events = dict[str, Split](), dict[str, list[Event]]()
    labels, problems = read_labels(settings.annotations, ClipNames(paths), with_split=settings.folds is None)
    if problems:
        raise InputProblems(str(settings.annotations), problems)
    for label in labels:
        splits[label.clip] = label.split or "train"  # without one only with folds, which take every labelled film
        events.setdefault(label.clip, []).extend([label.event] if label.event else [])
    health += count_lines("files without a label line", [clip for clip in paths if clip not in splits])
    classes = sorted({event.label for of_clip in events.values() for event in of_clip})
    rows = [Row(clip, splits.get(clip, "none"), path.as_posix(), tuple(events.get(clip, ()))) for clip, path in paths.items()]
    fixed = any(label.split for label in labels)
    return Index(rows, classes, health + (split_lines(rows, classes) if fixed else []))


def find_films(clips: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the files below ``clips`` with a video's ending, and the folders of numbered pictures.

    Returns:
        Path by clip id, in order of path, and health lines on what is left out.
    """
    root = clips.resolve()
    walked = list(os.walk(clips))
    folders = {parent for parent, _, names in walked if holds_pictures(names) and Path(parent) != clips}
    found = [(parent, name) for parent, _, names in walked if parent not in folders for name in names]
    found = [(parent, name) for parent, name in found if os.path.isfile(os.path.join(parent, name))]
    found += [os.path.split(folder) for folder in folders]
    paths: dict[str, Path] = {}
    hidden_or_outside, no_video = [], []
    for clip, path in sorted(((_clip_of(clips, *one), os.path.join(*one)) for one in found), key=lambda one: one[0].split("/")):
        name = clip.rpartition("/")[2]
        if name.startswith(".") or leads_out(path, root):
            hidden_or_outside.append(clip)
        elif path not in folders and os.path.splitext(name)[1].lower() not in MEDIA_SUFFIXES:
            no_video.append(clip)
        else:
            paths[clip] = Path(path)
    health = count_lines("hidden files and links that lead out of the directory, left out", hidden_or_outside)
    health += count_lines("files without a video's ending, left out", no_video)
    return paths, health


def _clip_of(clips: Path, parent: str, name: str) -> str:
    """The path below the directory ``clips`` of a file that :func:`os.walk` found there."""
    return os.path.join(parent, name)[len(os.path.join(clips, "")) :]


def split_lines(rows: list[Row], classes: list[str]) -> list[str]:
    """Health lines on splits without a clip, and on classes that some split lacks and training or scoring would need."""
    of_split: dict[Split, set[str]] = {
        split: {label for row in rows if row.split == split for label in row.clip_labels} for split in ("train", "val", "test")
    }
    used = {row.split for row in rows}
    uses = {"train": "no run can be trained", "val": "no epoch can be chosen", "test": "the table has no score"}
    health = [f"no clip is in the split {split}: {use}" for split, use in uses.items() if split not in used]
    unseen = sorted((of_split["val"] | of_split["test"]) - of_split["train"])
    health += count_lines("classes without a training clip, which no run can learn", unseen)
    health += count_lines("classes without a test clip", [name for name in classes if name not in of_split["test"] and name not in unseen])
    return health
