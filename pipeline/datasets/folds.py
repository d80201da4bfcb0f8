"""The folds of a data set, as the stage ``index`` wrote them; each gives one split of all clips.

With K folds, the k-th network is tested on fold k, validated on fold k + 1 (the first again after the last), and trained on the others. So
every clip is tested once and validates once, and no two splits of a fold share a source.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.cache import file_sha256
from pipeline.sealed import read_sealed, write_sealed
from pipeline.tables import intact

TABLE, FACTS = "folds.csv", "folds.json"


class Place(NamedTuple):
    """Where a clip is: its group, named by its first clip, and the fold that tests it, from 0."""

    group: str
    fold: int


@dataclass(frozen=True)
class Folds:
    """The folds of a data set.

    clips: place of every clip that takes part, by id, in annotation order.
    facts: the settings that made them, the counts, and ``health``, the sentences on what they lack.
    """

    number: int
    clips: Mapping[str, Place]
    facts: Mapping[str, Any]

    @property
    def groups(self) -> dict[str, str]:
        """The group of each clip."""
        return {clip: place.group for clip, place in self.clips.items()}

    def index_of(self, index: pd.DataFrame, fold: int) -> pd.DataFrame:
        """The index with the splits of one fold; rows that take no part (``none``, ``negative``) keep theirs."""
        return index.assign(split=[self.split_of(clip, fold, split) for clip, split in zip(index["clip"], index["split"], strict=True)])

    def split_of(self, clip: str, fold: int, fixed: str) -> str:
        """The split of a clip in one fold; ``fixed`` is the one that the annotations give."""
        if clip not in self.clips:
            return fixed
        ahead = (self.clips[clip].fold - fold) % self.number
        return ("test", "val")[ahead] if ahead < 2 else "train"


def write_folds(folds: Folds | None, directory: Path) -> None:
    """Write ``folds.csv`` (clip, group, fold) and ``folds.json`` (facts); without folds only the latter, with the number null."""
    facts: dict[str, Any] = {"number": None}
    if folds is not None:
        with open(directory / TABLE, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["clip", *Place._fields])
            writer.writerows([clip, *place] for clip, place in folds.clips.items())
        facts = {**folds.facts, "number": folds.number, TABLE: file_sha256(directory / TABLE)}
    write_sealed(directory / FACTS, facts)


def read_folds(directory: Path) -> Folds | None:
    """Read what :func:`write_folds` wrote; None without folds.

    Raises:
        PipelineError: a file is missing or damaged; names it.
    """
    facts = read_sealed(directory / FACTS)
    number, stated = facts.pop("number"), facts.pop(TABLE, None)
    if number is None:
        return None
    with intact(directory / TABLE):
        content = (directory / TABLE).read_bytes().decode("utf-8")
        if file_sha256(directory / TABLE) != stated:
            raise ValueError("its content has changed since it was written")
    lines = csv.DictReader(io.StringIO(content, newline=""))
    return Folds(number, {line["clip"]: Place(line["group"], int(line["fold"])) for line in lines}, facts)
