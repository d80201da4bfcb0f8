"""Read UnAV-100: dense audio-visual events of 100 classes in 10,790 untrimmed videos of 10 to 60 s.

Geng et al., CVPR 2023.

``unav100_annotations.json`` holds ``database: {id: {duration, subset: train | validation | test, annotations: [{segment: [s, e], label,
label_id}]}}``, seconds. Classes are in the order of ``label_id``. Events may overlap. The index keeps their moments and the durations as
they are; segments after a video's end are not valid. 60 segments of a second, or 224 steps of 0.32 s, hold every video.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

from pipeline.datasets.base import DATASETS, DatasetSettings, Event, Index, Row, Split, count_lines, find_files, unsafe_id
from pipeline.datasets.segments import occupied
from pipeline.errors import InputProblems
from pipeline.text import read_text

FILE = "unav100_annotations.json"
LARGEST = 1e9  # seconds
MOST_GAPS = 20  # listed in one message
SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "test": "test"}


@DATASETS.register("unav100")
def read_unav100(settings: DatasetSettings) -> Index:
    """Read one row per video, in the order of the file.

    Raises:
        InputProblems: every deviation from the module docstring, with its place in the file.
    """
    path = settings.annotations / FILE if settings.annotations.is_dir() else settings.annotations
    database = read_database(path)
    problems = [f"{path}: database.{clip}{fault}" for clip, video in database.items() for fault in faults(clip, video)]
    if not problems:
        problems = [f"{path}: {fault}" for fault in class_faults(database)]
    if problems:
        raise InputProblems(str(path), problems)
    labels = {event["label_id"]: event["label"] for video in database.values() for event in video["annotations"]}
    files, findings = find_files(settings.clips, database)
    rows = [
        Row(
            clip=clip,
            split=SPLITS[video["subset"]],
            file=files[clip],
            events=tuple(Event("av", event["label"], *map(float, event["segment"])) for event in video["annotations"]),
            seconds=float(video["duration"]),
        )
        for clip, video in database.items()
    ]
    return Index(rows, [labels[number] for number in sorted(labels)], findings + health(rows, settings))


def read_database(path: Path) -> dict[str, Any]:
    """Read the part ``database`` of the file.

    Raises:
        InputProblems: the file is missing or not JSON (with the line), has a duplicate key, or no ``database``.
    """
    if not path.is_file():
        raise InputProblems(str(path), [f"no such file; {FILE} is needed"])
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            twice.extend(sorted(key for key, times in Counter(key for key, _ in pairs).items() if times > 1))
        return result

    try:
        content = json.loads(read_text(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputProblems(str(path), [f"not JSON: {error}"]) from None
    problems = [f"the key {key!r} is given twice" for key in twice]
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        problems.append("it holds no mapping `database` of videos")
    if problems:
        raise InputProblems(str(path), problems)
    return content["database"]


def faults(clip: str, video: Any) -> Iterator[str]:
    """Yield the faults of one video: the rest of the path in the file, and a sentence."""
    if problem := unsafe_id(clip):
        yield f": {problem}"
    if not isinstance(video, dict) or not isinstance(video.get("annotations"), list):
        yield ": a mapping with a list `annotations` is needed"
        return
    duration: Any = video.get("duration")
    if not _is_number(duration) or duration <= 0:
        yield f".duration: {duration!r} is not a positive number of seconds"
        duration = math.inf
    if video.get("subset") not in SPLITS:
        yield f".subset: {video.get('subset')!r} is not one of {', '.join(SPLITS)}"
    for position, event in enumerate(video["annotations"]):
        for fault in _event_faults(event, duration):
            yield f".annotations[{position}]{fault}"


def _event_faults(event: Any, duration: float) -> Iterator[str]:
    if not isinstance(event, dict):
        yield ": a mapping with segment, label and label_id is needed"
        return
    span = event.get("segment")
    if not (isinstance(span, list) and len(span) == 2 and all(map(_is_number, span))):
        yield f".segment: {span!r} is not [start, end]"
    elif not 0 <= span[0] < span[1] <= duration:
        yield f".segment: {span[0]:g}-{span[1]:g} s does not lie in 0-{duration:g} s with start before end"
    if not isinstance(event.get("label"), str) or not event["label"].strip():
        yield f".label: {event.get('label')!r} is not a name"
    if type(event.get("label_id")) is not int or event["label_id"] < 0:
        yield f".label_id: {event.get('label_id')!r} is not a class number"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # false for NaN


def class_faults(database: dict[str, Any]) -> Iterator[str]:
    """Yield faults of the classes: names and numbers must match one to one, numbers from 0 without a gap."""
    pairs = {(event["label_id"], event["label"]) for video in database.values() for event in video["annotations"]}
    for position, what in enumerate(("label_id", "label")):
        partners: dict[Any, list[Any]] = {}
        for pair in sorted(pairs):
            partners.setdefault(pair[position], []).append(pair[1 - position])
        for value in sorted(value for value, others in partners.items() if len(others) > 1):
            yield f"{what} {value!r} goes with {', '.join(map(repr, partners[value]))}"
    numbers = {number for number, _ in pairs}
    if gaps := max(numbers, default=-1) + 1 - len(numbers):  # counted, not listed: the file may state any largest number
        first = list(islice((number for number in count() if number not in numbers), min(gaps, MOST_GAPS)))
        more = f" and {gaps - len(first)} more" if gaps > len(first) else ""
        yield f"no event has label_id {', '.join(map(str, first))}{more}: numbers from 0 without a gap are needed"


def health(rows: list[Row], settings: DatasetSettings) -> list[str]:
    """List defects and limits that do not stop a run."""
    window = settings.segments * settings.segment_seconds
    report = count_lines("videos without an event", [row.clip for row in rows if not row.events])
    trained = {event.label for row in rows if row.split == "train" for event in row.events}
    every = dict.fromkeys(event.label for row in rows for event in row.events)
    report += count_lines("classes without a training event, which cannot be learned", [name for name in every if name not in trained])
    repeats = [f"{row.clip} {event.label} {event.onset:g}-{event.offset:g}" for row in rows for event in _repeated(row)]
    report += count_lines("events given twice", repeats)
    report += count_lines("videos with overlapping events of one class", [row.clip for row in rows if _overlapping(row)])
    longer = [row.clip for row in rows if row.seconds is not None and row.seconds > window]
    report += count_lines(f"videos cut off at dataset.segments, {window:g} s", longer)
    short = [(row, event) for row in rows for event in row.events if _covers_none(event, settings)]
    lost = [f"{row.clip} {event.label} {event.onset:g}-{event.offset:g}" for row, event in short]
    report += count_lines(f"events that cover no segment (dataset.segment_rule: {settings.segment_rule})", lost)
    if settings.has_clips:
        report += count_lines("rows without a file", [row.clip for row in rows if row.file is None])
    return report


def _covers_none(event: Event, settings: DatasetSettings) -> bool:
    return not occupied([event], [event.label], "av", settings.segments, settings.segment_seconds, settings.segment_rule).any()


def _repeated(row: Row) -> list[Event]:
    return sorted((event for event, times in Counter(row.events).items() if times > 1), key=lambda event: event.onset)


def _overlapping(row: Row) -> bool:
    ordered = sorted(set(row.events), key=lambda event: (event.label, event.onset))
    return any(one.label == other.label and other.onset < one.offset for one, other in pairwise(ordered))
