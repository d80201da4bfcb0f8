"""Read LLP: audio and visual events of 25 classes in 11,849 clips of 10 s.

Tian, Li, Xu, "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video Parsing", ECCV 2020.

A directory holds, tab separated with a header line, the classes of whole clips (``filename event_labels``) in ``AVVP_train.csv``,
``AVVP_val_pd.csv``, ``AVVP_test_pd.csv``, and spans per modality (``filename onset offset event_labels``, seconds) of the val and test
clips in ``AVVP_eval_audio.csv``, ``AVVP_eval_visual.csv``. Demo worlds hold the same as ``train.csv`` ... ``eval_visual.csv``, with their
classes in ``categories.txt``. Training clips have no spans: their ``events`` stay empty, whatever the files hold.

``filename`` is ``<id>_<start>_<end>`` of the source video; the clip's id is ``<id>``. Dense lines are matched by the whole name, as in
every published score: a misspelt name loses its line.

``AVVP_eval_audio.csv`` exists in two versions: every follow-up's copy, and upstream's since April 2024, which corrects the names in three
lines of two test clips (at most 0.05 points; segments on in test: 14,568 audio and 9,591 audio-visual, corrected 14,576 and 9,592).
``dataset.audio_truth`` chooses one; the default is the older version, on which published numbers were scored. The file is recognised by
its hash, whatever its name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cache import file_sha256
from pipeline.datasets.base import DATASETS, DatasetSettings, Event, Index, Modality, Row, Split, find_files, read_class_names, unsafe_id
from pipeline.datasets.llp_health import health
from pipeline.errors import InputProblems
from pipeline.registry import suggest
from pipeline.text import text_lines

CLASSES = (
    "Speech", "Car", "Cheering", "Dog", "Cat", "Frying_(food)", "Basketball_bounce", "Fire_alarm", "Chainsaw", "Cello", "Banjo", "Singing",
    "Chicken_rooster", "Violin_fiddle", "Vacuum_cleaner", "Baby_laughter", "Accordion", "Lawn_mower", "Motorcycle", "Helicopter",
    "Acoustic_guitar", "Telephone_bell_ringing", "Baby_cry_infant_cry", "Blender", "Clapping",
)  # fmt: skip
WEAK: dict[Split, tuple[str, str]] = {
    "train": ("AVVP_train.csv", "train.csv"),
    "val": ("AVVP_val_pd.csv", "val.csv"),
    "test": ("AVVP_test_pd.csv", "test.csv"),
}
AUDIO_VERSIONS = {
    "249122f65501d8d611c0027a48643798fe622bedee60f7e6224b5a8e3c02f886": "before_2024_04",
    "d5435664668bec6e7eafb39059d2f424ed2682f6b55395262fc3cb691b7d0778": "corrected",
}
NAME = re.compile(r"(?P<id>.+)_(?P<start>\d+(\.\d+)?)_(?P<end>\d+(\.\d+)?)")


@dataclass(frozen=True)
class WeakLine:
    """Classes of one clip; ``name`` as in the file, ``labels`` as listed, repeats included."""

    name: str
    labels: tuple[str, ...]
    number: int

    @property
    def parts(self) -> re.Match[str]:
        match = NAME.fullmatch(self.name)
        assert match is not None, "checked when the line was read"
        return match

    @property
    def clip(self) -> str:
        return self.parts["id"]


@dataclass(frozen=True)
class DenseLine:
    """One span, [onset, offset) in seconds."""

    name: str
    event: Event
    number: int


@dataclass
class Files:
    """All lines read, before they become rows."""

    weak: dict[Split, list[WeakLine]] = field(default_factory=dict)
    dense: dict[Modality, list[DenseLine]] = field(default_factory=dict)
    audio_truth: str = ""


@DATASETS.register("llp")
def read_llp(settings: DatasetSettings) -> Index:
    """Read one row per clip: train, val, test in the order of their files.

    Raises:
        InputProblems: every malformed line, unknown class, clip named twice and missing file at once.
    """
    directory, seconds = settings.annotations, settings.segments * settings.segment_seconds
    problems: list[str] = []
    classes = read_classes(directory, problems)
    files = Files()
    for split, names in WEAK.items():
        files.weak[split] = read_weak(first_of(directory, names, problems), classes, problems)
    problems += named_twice(files.weak)
    audio, files.audio_truth = audio_file(directory, settings.audio_truth, problems)
    files.dense["audio"] = read_dense(audio, "audio", classes, seconds, problems)
    visual = first_of(directory, ("AVVP_eval_visual.csv", "eval_visual.csv"), problems)
    files.dense["visual"] = read_dense(visual, "visual", classes, seconds, problems)
    if problems:
        raise InputProblems(str(directory), problems)
    events = defaultdict(list)
    for lines in files.dense.values():
        for line in lines:
            if line.event.onset < line.event.offset:
                events[line.name].append(line.event)
    found, findings = find_files(settings.clips, {line.clip for lines in files.weak.values() for line in lines})
    rows = [
        Row(
            clip=line.clip,
            split=split,
            file=found[line.clip],
            events=tuple(events[line.name]) if split != "train" else (),
            labels=tuple(dict.fromkeys(line.labels)),
        )
        for split, lines in files.weak.items()
        for line in lines
    ]
    return Index(rows, classes, findings + health(files, rows, directory, settings))


def read_classes(directory: Path, problems: list[str]) -> list[str]:
    """Read ``categories.txt``; without it, take the published 25 classes in the order of every released model."""
    path = directory / "categories.txt"
    return read_class_names(path, problems) if path.is_file() else list(CLASSES)


def first_of(directory: Path, names: Iterable[str], problems: list[str]) -> Path | None:
    """Find the first of these files that exists; a problem if none does."""
    for name in names:
        if (directory / name).is_file():
            return directory / name
    problems.append(f"{directory}: no {' or '.join(names)}")
    return None


def audio_file(directory: Path, wanted: str, problems: list[str]) -> tuple[Path | None, str]:
    """Find the audio truth of the wanted version, and describe it.

    A single file of no published version is taken as it is.
    """
    paths = sorted(directory.glob("*eval_audio*.csv"))
    versions = {path: AUDIO_VERSIONS.get(file_sha256(path)) for path in paths}
    for path, version in versions.items():
        if version == wanted:
            return path, f"{path.name}, version {version}"
    if len(paths) == 1 and versions[paths[0]] is None:
        return paths[0], f"{paths[0].name}, neither of LLP's two published versions"
    have = ", ".join(f"{path.name} is {version or 'neither published version'}" for path, version in versions.items())
    advice = "set dataset.audio_truth to that version" if any(versions.values()) else "put AVVP_eval_audio.csv there"
    problems.append(f"{directory}: no audio truth of the version {wanted} (dataset.audio_truth); {have or 'there is none'}; {advice}")
    return None, ""


def table_lines(path: Path | None, header: str, problems: list[str]) -> Iterable[tuple[int, list[str]]]:
    """Yield line number and fields of a tab separated file; another header or number of fields is a problem."""
    if path is None:
        return
    unreadable = len(problems)
    lines = text_lines(path, problems)
    columns = header.split()
    if len(problems) > unreadable:
        return
    if not lines or lines[0].split("\t") != columns:
        problems.append(f"{path}:1: the columns {', '.join(columns)}, tab separated, are needed as the first line")
        return
    for number, text in enumerate(lines[1:], 2):
        fields = [part.strip() for part in text.split("\t")]
        if len(fields) == len(columns):
            yield number, fields
        elif text.strip():
            problems.append(f"{path}:{number}: {len(fields)} columns instead of {len(columns)} ({', '.join(columns)})")


def read_weak(path: Path | None, classes: list[str], problems: list[str]) -> list[WeakLine]:
    lines = []
    for number, (name, labels) in table_lines(path, "filename event_labels", problems):
        listed = tuple(label.strip() for label in labels.split(","))
        match = NAME.fullmatch(name)
        faults = [unknown_class(label, classes) for label in listed if label not in classes]
        if match is None:
            faults.append(f"the name {name!r} is not <id>_<start>_<end>")
        elif problem := unsafe_id(match["id"]):
            faults.append(problem)
        elif float(match["end"]) <= float(match["start"]):
            faults.append(f"the clip {name!r} ends before it starts")
        problems += [f"{path}:{number}: {fault}" for fault in faults]
        if not faults:
            lines.append(WeakLine(name, listed, number))
    return lines


def read_dense(path: Path | None, modality: Modality, classes: list[str], seconds: float, problems: list[str]) -> list[DenseLine]:
    """Read all lines of spans within ``seconds``, the length of a clip.

    Lines without a length, of which LLP has six, are kept here and counted by the health report.
    """
    lines = []
    for number, (name, start, end, label) in table_lines(path, "filename onset offset event_labels", problems):
        faults = [] if label in classes else [unknown_class(label, classes)]
        try:
            onset, offset = float(start), float(end)
        except ValueError:
            faults.append(f"onset {start!r} or offset {end!r} is not a number")
        else:
            if not (0 <= onset <= seconds and 0 <= offset <= seconds):  # also refuses NaN
                faults.append(f"the span {onset:g}-{offset:g} s does not lie in 0-{seconds:g} s")
        problems += [f"{path}:{number}: {fault}" for fault in faults]
        if not faults:
            lines.append(DenseLine(name, Event(modality, label, onset, offset), number))
    return lines


def unknown_class(label: str, classes: list[str]) -> str:
    return f"unknown class {label!r}{suggest(label, classes)}"


def named_twice(weak: dict[Split, list[WeakLine]]) -> list[str]:
    """List clips on two lines, in one split or in two: their truth is ambiguous."""
    places: dict[str, list[str]] = defaultdict(list)
    for split, lines in weak.items():
        for line in lines:
            places[line.clip].append(f"{split} line {line.number}")
    return [f"the clip {clip!r} is on {' and '.join(where)}" for clip, where in places.items() if len(where) > 1]
