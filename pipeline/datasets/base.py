"""The index of a data set: its annotation rows, the file of each, and every defect found.

The unit is the annotation row, not the clip: AVE has 4,143 rows over 4,097 videos. A clip with several rows is decoded and encoded once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from pipeline.cache import file_sha256
from pipeline.datasets.files import match_files
from pipeline.registry import Registry
from pipeline.settings import Settings
from pipeline.tables import intact, read_schema, read_table
from pipeline.text import read_text, text_lines

Modality = Literal["av", "audio", "visual"]
SegmentRule = Literal["half", "touch"]  # see pipeline.datasets.segments
Split = Literal["train", "val", "test", "none", "negative"]  # negative: without any event, only for weak training
UNCUT = frozenset({"ave", "llp", "unav100"})  # kinds whose files hold one window each
NO_CLIPS = Path("data/none")  # stands for no raw clips, so that DVC has a path to depend on


class FoldSettings(Settings):
    """Cross-validation: every clip is tested once, by the networks of its fold (:mod:`pipeline.datasets.folds`)."""

    number: int = Field(
        5,
        ge=3,
        le=1000,
        description="folds; a run trains once per fold and seed, tested on that fold, validated on the next, trained on the others",
    )
    by: Path | None = Field(
        None, description="CSV file with the columns clip and source; clips that share a source stay together. null: those of one film do"
    )


class DatasetSettings(Settings):
    """The block ``dataset`` of params.yaml; the stage ``index`` depends on both paths."""

    kind: str = Field(description="a registered data set: ave, llp, unav100, folder")
    clips: Path = Field(
        description="directory of the films: video files or folders of numbered pictures; data/none for imported features without"
    )
    annotations: Path = Field(
        description="directory (ave, llp, unav100) or CSV file (folder) of labels; without labels, the clips directory"
    )
    sounds: Path | None = Field(
        None, description="directory of WAV or FLAC files named like the clips, read instead of the films' own sound; null: the films' own"
    )
    segments: int = Field(ge=1, le=3600, description="T, segments of a clip")
    segment_seconds: float = Field(gt=0, le=60, description="length of a segment in seconds")
    segment_rule: SegmentRule = Field(
        "half", description="an event covers a segment that is at least half its own | touch: any of it, as UWAV's grid of UnAV-100"
    )
    windows: Literal["first", "all"] = Field(
        "first",
        description="of a film longer than segments * segment_seconds, read the first window alone | all, each a clip with its labels",
    )
    split: Literal["official", "match"] = Field(
        "official", description="ave: trainSet.txt ... or train_order.h5 ... | *_order_match.h5, the subsets of cross-modality localization"
    )
    negatives: int = Field(0, ge=0, description="ave: clips without an event, whose ids are lost (published: 178 by their features)")
    audio_truth: Literal["before_2024_04", "corrected"] = Field(
        "before_2024_04", description="llp: AVVP_eval_audio.csv as all papers were scored on | as upstream corrected it (3 lines)"
    )
    folds: FoldSettings | None = Field(None, description="cross-validation of small sets, instead of the annotations' splits; null: none")

    @field_validator("split", "negatives", "audio_truth")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind = "llp" if info.field_name == "audio_truth" else "ave"
        if info.data.get("kind", kind) != kind:
            raise ValueError(f"only the data set kind {kind} has this setting")
        return value

    @field_validator("windows")
    @classmethod
    def _of_films(cls, value: str, info: ValidationInfo) -> str:
        if value == "all" and info.data.get("kind") in UNCUT:
            raise ValueError(f"a file of {info.data['kind']} holds one window; films of your own (kind: folder) can be cut into several")
        return value

    @property
    def has_clips(self) -> bool:
        return self.clips != NO_CLIPS


@dataclass(frozen=True)
class Event:
    """One labelled span of a clip, [onset, offset) in seconds from the start of the clip's window."""

    modality: Modality
    label: str
    onset: float
    offset: float


@dataclass(frozen=True)
class Row:
    """One annotation row.

    file: None where no file of that id was found.
    events: spans; empty where only the clip's labels are known.
    start: of the window in the file, in seconds.
    labels: classes of the whole clip, all that weak training may use; None: the classes of the events.
    seconds: length of the clip where the annotations state it; None: segments * segment_seconds.
    """

    clip: str
    split: Split
    file: str | None
    events: tuple[Event, ...] = ()
    start: float = 0.0
    labels: tuple[str, ...] | None = None
    seconds: float | None = None

    @property
    def clip_labels(self) -> tuple[str, ...]:
        """Each class of the clip once, in the order of first mention."""
        return tuple(dict.fromkeys(event.label for event in self.events)) if self.labels is None else self.labels


@dataclass(frozen=True)
class Index:
    """All rows in annotation order, the class names in label order, and the defects that do not stop the run."""

    rows: list[Row]
    classes: list[str]
    health: list[str] = field(default_factory=list)
    segment_rule: SegmentRule = "half"


DATASETS: Registry = Registry("dataset kind")


def expected_files(rows: pd.DataFrame, settings: DatasetSettings) -> pd.DataFrame:
    """Rows of an index that should have a video file: none without raw clips, and no lost negative."""
    return rows[settings.has_clips & (rows["file"].notna() | (rows["split"] != "negative"))]


def find_files(clips: Path, ids: Iterable[str]) -> tuple[dict[str, str | None], list[str]]:
    """Find the file of each id below ``clips``.

    Returns:
        id -> path, None where there is no file or no single one; and the health lines of the search.
    """
    found = match_files(clips, ids)
    return found.files, [line for title, entries in found.findings() for line in count_lines(title, entries)]


def unsafe_id(clip: str) -> str | None:
    """Reason why an id from an annotation file must not become part of a path; None for a safe id."""
    if not clip or clip in {".", ".."} or any(character in clip for character in "/\\\0"):
        return f"the id {clip!r} is empty or holds a path separator"
    return None


CLASSES, HEALTH = "classes.json", "health.json"
LISTED = 20  # defects named in a health line


def published_path(file: str | None, clips: Path | None) -> str | None:
    """A file's path relative to the clips directory, wherever that is."""
    return file if not isinstance(file, str) or clips is None else file.removeprefix(f"{clips.as_posix()}/")  # pandas has NaN for none


def local_path(file: str | None, clips: Path | None) -> str | None:
    """Path on this machine of a file named by :func:`published_path`."""
    return file if not isinstance(file, str) or clips is None else os.path.join(clips, file).removeprefix("./")


def read_index(directory: str | Path, clips: Path | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read rows and class names as :func:`write_index` wrote them.

    Args:
        clips: ``dataset.clips``; with it, each row's file can be opened.
    """
    rows = read_table(Path(directory) / "index.parquet")
    if clips is not None:
        rows["file"] = rows["file"].map(lambda file: local_path(file, clips), na_action="ignore")
    return rows, _read_beside(Path(directory), CLASSES)


def read_health(directory: Path) -> list[str]:
    """Read the health lines that :func:`write_index` wrote."""
    return _read_beside(directory, HEALTH)


def _read_beside(directory: Path, name: str) -> list[str]:
    """Read a list beside ``index.parquet``, checked by the sha256 stated there (an earlier version's states none)."""
    stated = (read_schema(directory / "index.parquet").metadata or {}).get(name.encode())
    with intact(directory / name):
        if stated is not None and file_sha256(directory / name) != stated.decode():
            raise ValueError("its content is not what was written")
        return json.loads(read_text(directory / name))


def read_class_names(path: Path, problems: list[str]) -> list[str]:
    """Read class names, one per line, in label order.

    A name on two lines goes to ``problems``: its second number would have no event.
    """
    lines: dict[str, list[int]] = {}
    for number, text in enumerate(text_lines(path, problems), 1):
        if name := text.strip():
            lines.setdefault(name, []).append(number)
    problems += [
        f"{path}: the class {name!r} is on lines {' and '.join(map(str, places))}; leave one of them"
        for name, places in lines.items()
        if len(places) > 1
    ]
    return list(lines)


def count_lines(title: str, entries: Sequence[str], limit: int = LISTED, count: int | None = None) -> list[str]:
    """Sum up defects of one kind in one health line: their count and the first few.

    Args:
        count: if ``entries`` are the first of so many.
    """
    count = len(entries) if count is None else count
    if not entries:
        return []
    more = f" and {count - limit} more" if count > limit else ""
    return [f"{title}: {count} ({', '.join(entries[:limit])}{more})"]
