"""Read the labels of films as people have them: a CSV file, or files of ELAN, VIA or Audacity.

=============  ========================================================================================
ending         content
=============  ========================================================================================
.csv           a table (:mod:`pipeline.datasets.labels`), or an export of VIA's video annotator
.json          a project of VIA's video annotator
.eaf           ELAN
.txt           Audacity's label track, named like its film
=============  ========================================================================================

A folder holds any number of these. Among the films themselves, where tables and JSON files of other kinds lie as well, only these are
read: ``labels.csv``, ELAN's files, VIA's projects, and a label track in the folder of its film. Hidden files are not read. Every problem is
found before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.datasets.base import Event, Split, count_lines
from pipeline.datasets.labels import ClipNames, Label, make_event, read_labels
from pipeline.errors import InputProblems
from pipeline.films import audacity, elan, via
from pipeline.films.spans import Found
from pipeline.text import read_text

READERS: dict[str, Callable[[Path, str | None], Found]] = {".eaf": elan.read, ".json": via.read_project, ".txt": audacity.read}
ENDINGS = frozenset([*READERS, ".csv"])
TABLE = "labels.csv"  # the one table that is looked for beside the films
SLACK_SECONDS = 1.0  # a label may end so much after its film: annotation programs round up


@dataclass
class FilmLabels:
    """The labels of all films.

    events: by clip, in the order of onset; empty for a film of which is known that it has no event.
    splits: by clip, where the labels give them.
    notes: what was left out, one line each.
    tiers: ELAN's tiers that labels were read from.
    """

    events: dict[str, list[Event]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tiers: set[str] = field(default_factory=set)

    @property
    def classes(self) -> list[str]:
        return sorted({event.label for events in self.events.values() for event in events})


def read_film_labels(
    path: Path, names: ClipNames, lengths: Mapping[str, float | None], tier: str | None = None, beside: bool = False
) -> FilmLabels:
    """Read all labels in a file, or in every label file below a folder.

    Args:
        lengths: seconds by clip; None where unknown.
        tier: ELAN's tier or VIA's attribute to read alone; None: all.
        beside: the folder is that of the films; what is no label file for certain is not read, and there may be none.

    Raises:
        InputProblems: every malformed line, unknown film and impossible time at once, each with its file and line.
    """
    problems: list[str] = []
    found, split_at, others = FilmLabels(), dict[str, str](), list[str]()
    for file in files_beside(path, names) if beside else label_files(path, names):
        for label in _of_file(file, names, tier, problems, found):
            if label.event is not None and label.event.modality != "av":
                others.append(f"{label.where} ({label.event.modality})")
            _add(label, found, lengths, split_at, problems)
    problems += count_lines(
        "labels of sound or of pictures alone, which the runs for events both heard and seen would take for background; write av or leave"
        " the column `modality` out if they are both, else delete the lines",
        others,
    )
    if problems:
        raise InputProblems("labels", problems)
    for events in found.events.values():
        events.sort(key=lambda event: (event.onset, event.offset, event.label))
    return found


def label_files(path: Path, names: ClipNames) -> list[Path]:
    """The label files at ``path``: itself, or those below it, of .txt files those named like a film.

    Raises:
        InputProblems: nothing is there.
    """
    if path.is_file() and path.suffix.lower() in ENDINGS:
        return [path]
    if path.is_dir():
        stems = {Path(clip).stem for clip in names.clips}
        if files := [file for file in _inside(path) if file.suffix.lower() != ".txt" or file.stem in stems]:
            return files
    wanted = "a CSV file, or files of ELAN (.eaf), VIA (.json, .csv) or Audacity (.txt, named like their films)"
    raise InputProblems(str(path), [f"{'no label file is there' if path.exists() else 'no such file or folder'}; labels are {wanted}"])


def files_beside(films: Path, names: ClipNames) -> list[Path]:
    """The label files among the films of a folder, without tables and JSON files that need not be labels."""
    tracks = {str(PurePosixPath(clip).with_suffix("")) for clip in names.clips}

    def is_labels(file: Path) -> bool:
        ending = file.suffix.lower()
        if ending == ".txt":
            return file.relative_to(films).with_suffix("").as_posix() in tracks
        return file.name == TABLE if ending == ".csv" else ending != ".json" or via.is_project(file)

    return [file for file in _inside(films) if is_labels(file)]


def _inside(folder: Path) -> list[Path]:
    """The files below a folder with an ending of labels, without hidden ones."""
    inside = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in ENDINGS and file.is_file()]
    return [file for file in inside if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _of_file(path: Path, names: ClipNames, tier: str | None, problems: list[str], found: FilmLabels) -> list[Label]:
    """The labels of one file; problems go to the list, notes and tiers to what was found."""
    try:
        if path.suffix.lower() == ".csv" and not via.is_export(read_text(path)):
            of_table, faults = read_labels(path, names, with_split=False)
            problems += [f"{path}: {fault}" for fault in faults]
            return of_table
        read = via.read_export if path.suffix.lower() == ".csv" else READERS[path.suffix.lower()]
        spans = read(path, tier)
    except InputProblems as error:
        problems += [f"{error.where}: {problem}" for problem in error.problems]
        return []
    found.notes += spans.notes
    found.tiers |= spans.tiers
    problems += spans.problems
    labels: list[Label] = []
    clips: dict[str, str] = {}
    for film in spans.films:
        try:
            clips[film] = _find(film, path, names)
            labels.append(Label(str(path), clips[film], None, None))
        except ValueError as error:
            problems.append(f"{path}: {error}")
    for span in spans.spans:
        try:
            if span.film in clips:
                labels.append(Label(span.where, clips[span.film], None, make_event(span.label, span.onset, span.offset)))
        except ValueError as error:
            problems.append(f"{span.where}: {error}")
    return labels


def _find(film: str, path: Path, names: ClipNames) -> str:
    """The clip that an annotation file names: perhaps with another ending or, for ELAN, by the file's own name.

    Raises:
        ValueError: no clip, or several.
    """
    for name in (film, Path(film).stem, *[path.stem] * (path.suffix.lower() == ".eaf")):
        with suppress(ValueError):
            return names.find(name)
    return names.find(film)  # raises


def _add(label: Label, found: FilmLabels, lengths: Mapping[str, float | None], split_at: dict[str, str], problems: list[str]) -> None:
    """Add one label to its film; ``split_at`` holds the place that gave a film's split."""
    events = found.events.setdefault(label.clip, [])
    if label.split is not None:
        first = found.splits.setdefault(label.clip, label.split)
        place = split_at.setdefault(label.clip, label.where)
        if first != label.split:
            problems.append(f"{label.where}: {label.clip} is in the split {label.split}, but in {first} by {place}")
    if label.event is None:
        return
    length = lengths.get(label.clip)
    if length is not None and label.event.onset >= length:
        problems.append(f"{label.where}: begins at {label.event.onset:g} s, but {label.clip} ends at {length:.1f} s; are times in seconds?")
    elif length is not None and label.event.offset > length + SLACK_SECONDS:
        problems.append(f"{label.where}: ends at {label.event.offset:g} s, but {label.clip} ends at {length:.1f} s")
    elif label.event not in events:
        events.append(label.event)
