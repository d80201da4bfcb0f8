"""List the videos that a data set needs, and which seconds of each, from its annotation files.

llp       ids are <video>_<start>_<end>, with the span
unav100   whole videos
ave       ids without a span: AVE's files do not state which ten seconds of a video a clip is. AVE was drawn from AudioSet, whose
          segment lists (lines of ``YTID, start_seconds, end_seconds, labels``) do; the alternative is whole videos
csv       columns id, start, end; start and end both empty: the whole video
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.ave import parse_line
from pipeline.datasets.tables import read_records
from pipeline.errors import InputProblems, PipelineError
from pipeline.text import read_text, text_lines

KINDS = ("ave", "llp", "unav100", "csv")
CLIP_SECONDS = 10.0  # of AVE's clips
_VIDEO = re.compile(r"[A-Za-z0-9_-]{11}")
_LLP = re.compile(r"(?P<video>[A-Za-z0-9_-]{11})_(?P<start>\d+(?:\.\d+)?)_(?P<end>\d+(?:\.\d+)?)")
LONGEST = 24 * 3600.0  # seconds


@dataclass(frozen=True)
class Wanted:
    """A clip: its id in the annotations, its YouTube id, and its span in seconds (None: the whole video)."""

    clip: str
    video: str
    start: float | None = None
    end: float | None = None
    problem: str = ""  # why it cannot be downloaded, where that is known before any try


def read_wanted(kind: str, annotations: Path, spans: Sequence[Path] = (), whole: bool = False) -> list[Wanted]:
    """List each clip of a data set once, in the order of its annotations.

    Args:
        annotations: the file, or the directory that holds it under its published name.
        spans: AudioSet's segment lists, for ``ave``.
        whole: for ``ave``, take whole videos without knowing the span.

    Raises:
        InputProblems: every malformed line, id or span at once, with file and line.
    """
    if kind not in KINDS:
        raise PipelineError(f"unknown kind {kind!r} (known: {', '.join(KINDS)})")
    if kind == "ave" and bool(spans) == whole:
        raise PipelineError(
            "AVE's annotations do not state which ten seconds of a video a clip is: give AudioSet's segment lists "
            "(--spans balanced_train_segments.csv unbalanced_train_segments.csv eval_segments.csv), or --whole for whole videos, not both"
        )
    if kind != "ave" and (spans or whole):
        raise PipelineError(f"--spans and --whole are for the kind ave; {kind} has its own spans")
    problems: list[str] = []
    readers = {"ave": _ave, "llp": _llp, "unav100": _unav100, "csv": _csv}
    wanted = list({each.clip: each for each in readers[kind](annotations, problems)}.values())
    if problems:
        raise InputProblems("download", problems)
    if not wanted:
        raise InputProblems("download", [f"{annotations}: holds no id"])
    return _with_spans(wanted, spans) if spans else wanted


def _lines(path: Path, names: Iterable[str], problems: list[str]) -> list[tuple[str, str]]:
    """Read ("file:line", text) of every line of ``path``, or of the first of ``names`` in the directory ``path``."""
    names = list(names)
    file = next((path / name for name in names if (path / name).is_file()), path / names[0]) if path.is_dir() else path
    if not file.is_file():
        problems.append(f"{file}: no such file")
        return []
    return [(f"{file}:{number}", text) for number, text in enumerate(text_lines(file, problems), 1)]


def _ave(path: Path, problems: list[str]) -> list[Wanted]:
    found = []
    for place, text in _lines(path, ["Annotations.txt"], problems):
        if not text.strip() or text.endswith("&StartTime&EndTime"):
            continue
        try:
            clip = parse_line(text, CLIP_SECONDS).clip
            if not _VIDEO.fullmatch(clip):
                raise ValueError(f"{clip!r} is not a YouTube id (11 letters, digits, - and _)")
            found.append(Wanted(clip, clip))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    return found


def _llp(path: Path, problems: list[str]) -> list[Wanted]:
    found = []
    for place, text in _lines(path, ["AVVP_dataset_full.csv", "AVVP_train.csv"], problems):
        clip = text.split("\t")[0].strip()
        if not clip or clip == "filename":
            continue
        match = _LLP.fullmatch(clip)
        if match is None or not float(match["start"]) < float(match["end"]) <= LONGEST:
            problems.append(f"{place}: {clip!r} is not <video>_<start>_<end> with start before end")
        else:
            found.append(Wanted(clip, match["video"], float(match["start"]), float(match["end"])))
    return found


def _unav100(path: Path, problems: list[str]) -> list[Wanted]:
    file = path / "unav100_annotations.json" if path.is_dir() else path
    try:
        videos = list(json.loads(read_text(file))["database"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problems.append(f"{file}: not UnAV-100's annotations ({type(error).__name__}: {error})")
        return []
    problems += [f"{file}: {video!r} is not a YouTube id" for video in videos if not _VIDEO.fullmatch(video)]
    return [Wanted(video, video) for video in videos]


def _csv(path: Path, problems: list[str]) -> list[Wanted]:
    found = []
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return []
    faults: list[tuple[int, str]] = []
    for line, record in read_records(path, ("id", "start", "end"), faults):
        try:
            found.append(_csv_clip(record))
        except ValueError as error:
            faults.append((line, str(error)))
    problems += [f"{path}:{line}: {fault}" for line, fault in faults]
    return found


def _csv_clip(record: dict[str, str]) -> Wanted:
    """Read the clip of one line, named ``<id>_<start>_<end>``, or ``<id>`` for a whole video.

    Raises:
        ValueError: the line is malformed.
    """
    video, start, end = (record[name].strip() for name in ("id", "start", "end"))
    if not _VIDEO.fullmatch(video):
        raise ValueError(f"{video!r} is not a YouTube id (11 letters, digits, - and _)")
    if not start and not end:
        return Wanted(video, video)
    try:
        first, last = float(start), float(end)
    except ValueError:
        raise ValueError(f"start {start!r} or end {end!r} is not a number; leave both empty for the whole video") from None
    if not 0 <= first < last <= LONGEST:
        raise ValueError(f"the span {first:g}-{last:g} s does not have start before end")
    return Wanted(f"{video}_{first:.10g}_{last:.10g}", video, first, last)


def _with_spans(wanted: list[Wanted], lists: Sequence[Path]) -> list[Wanted]:
    """Add the spans of AudioSet's lists; an id that is in no list cannot be downloaded."""
    ids, spans = {each.video for each in wanted}, dict[str, tuple[float, float]]()
    problems = []
    for path in lists:
        try:
            with io.StringIO(read_text(path), newline="") as stream:
                reader = csv.reader(stream, skipinitialspace=True, strict=True)
                for record in reader:
                    if record and record[0] in ids:
                        try:
                            span = _audioset_span(record)
                            if spans.setdefault(record[0], span) != span:
                                raise ValueError(f"{record[0]} has another span above")
                        except ValueError as error:
                            problems.append(f"{path}:{reader.line_num}: {error}")
        except (OSError, ValueError, csv.Error) as error:
            problems.append(f"{path}: not a segment list of AudioSet ({type(error).__name__}: {error})")
    if problems:
        raise InputProblems("download", problems)
    unknown = f"its span is in none of {', '.join(path.name for path in lists)}"
    return [
        Wanted(each.clip, each.video, *spans[each.video]) if each.video in spans else Wanted(each.clip, each.video, problem=unknown)
        for each in wanted
    ]


def _audioset_span(record: list[str]) -> tuple[float, float]:
    """Read (start, end) in seconds from a line of AudioSet's list.

    Raises:
        ValueError: the line is malformed.
    """
    if len(record) != 4:
        raise ValueError(f"{len(record)} columns instead of 4 (YTID, start_seconds, end_seconds, labels)")
    try:
        first, last = float(record[1]), float(record[2])
    except ValueError:
        raise ValueError(f"start {record[1]!r} or end {record[2]!r} is not a number") from None
    if not 0 <= first < last <= LONGEST:
        raise ValueError(f"the span {first:g}-{last:g} s does not have start before end")
    return first, last
