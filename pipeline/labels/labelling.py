"""Make a label set: the features that runs train on, as they are, beside segment labels from teachers' outputs.

VALOR's rule (NeurIPS 2023): a label is on in a segment if the clip has it and the teacher's score exceeds the class's threshold. A labelled
class may thus be off everywhere. A soft label is the sigmoid of the score's distance from the threshold, where the clip has the label.
What differs from VALOR's own labels is the sampling, which is that of the teachers' feature set: VALOR takes one frame of each second, at
moments that wander from its start to its end, and cuts the sound into ten equal parts.

Streams: ``audio_labels``, ``visual_labels`` (0 or 1), ``audio_soft_labels``, ``visual_soft_labels``, (C,) a segment each, in the dtype of
the features; 0 beyond a clip's end. A clip that the teachers lack keeps its labels in all segments. Shape letters: N entries of the store,
T segments, C classes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.datasets.base import count_lines
from pipeline.errors import InputProblems
from pipeline.features.store import INDEX, FeatureStore, begin_shard, shard_name, write_documents, write_entries
from pipeline.labels.quality import MODALITIES, truth_of
from pipeline.labels.settings import LabelSet
from pipeline.labels.streams import HARD, SOFT, STREAMS
from pipeline.labels.teachers import Modality, Scorer, output_problems, scorer
from pipeline.labels.thresholds import Thresholds, given, of_background, searched, soft_labels
from pipeline.progress import Progress

BLOCK = 1024  # entries scored at a time


class Labelling:
    """One entry of ``labels``.

    Args:
        features, teachers: the stores that it names.
        index, classes: as :func:`pipeline.datasets.read_index` gives them.

    Raises:
        InputProblems: everything that does not fit together.

    Attributes:
        rows: annotation rows with their entry of the store (column ``entry``, -1 without features).
        clip_labels: (N, C) bool; told: by modality, those that may be on.
        without: ids of clips that the teachers lack.
    """

    def __init__(
        self, name: str, settings: LabelSet, features: FeatureStore, teachers: FeatureStore, index: pd.DataFrame, classes: Sequence[str]
    ) -> None:
        self.name, self.settings, self.features, self.teachers, self.classes = name, settings, features, teachers, list(classes)
        problems: list[str] = []
        self.scorers: dict[Modality, Scorer | None] = {
            modality: scorer(f"labels.{name}.{modality}", modality, teacher, self.classes, problems)
            for modality, teacher in settings.by_modality.items()
        }
        self.table = pd.read_parquet(features.directory / INDEX)
        self.rows = index.assign(entry=features.entries(index))
        self._of_teachers = teachers.entries(self._first_rows(index))
        self.without = list(self.table["clip"][self._of_teachers < 0]) if any(self.scorers.values()) else []
        if problems := [*problems, *self._problems()]:
            raise InputProblems(f"label {name}", problems)
        self.clip_labels = self._clip_labels()
        may_be_on = {modality: ~np.isin(self.classes, list(teacher.never)) for modality, teacher in settings.by_modality.items()}
        self.told = {modality: self.clip_labels & may for modality, may in may_be_on.items()}
        self.valid = features.valid_entries(np.arange(len(self.table)))

    def _first_rows(self, index: pd.DataFrame) -> pd.DataFrame:
        """The annotation row of each entry; of a clip with several, the first."""
        if "row" in self.table:
            return self.table[["clip", "row"]]
        of_clips = index.drop_duplicates("clip").set_index("clip")["row"]
        return pd.DataFrame({"clip": self.table["clip"], "row": of_clips.reindex(self.table["clip"]).to_numpy()})

    def _problems(self) -> Iterator[str]:
        """Yield what is wrong between the two stores, the teachers' outputs and the data set."""
        place, grids = f"labels.{self.name}", [(each.segments, each.spec["segment_seconds"]) for each in (self.features, self.teachers)]
        if grids[0] != grids[1]:
            yield f"{place}.teachers: {grids[1][0]} segments of {grids[1][1]:g} s, and the features have {grids[0][0]} of {grids[0][1]:g} s"
        for modality, made in self.scorers.items():
            if made is not None:
                yield from output_problems(f"{place}.{modality}", modality, self.settings.by_modality[modality], made, self.teachers.spec)
        if len(self.without) > self.settings.max_missing_fraction * len(self.table):
            line = count_lines("clips without the teachers' outputs", self.without)[0]
            yield f"{place}.teachers: {line}; more than max_missing_fraction = {self.settings.max_missing_fraction:g} allows"
        for modality, teacher in self.settings.by_modality.items():
            if teacher.searches and not len(self.true_rows("val")):
                yield f"{place}.{modality}.thresholds: searched needs validation clips with dense labels, and the data has none"

    def _clip_labels(self) -> NDArray[np.bool_]:
        """Labels of the clips, (N, C); of a clip with several annotation rows, those of all."""
        number = {label: position for position, label in enumerate(self.classes)}
        told = np.zeros((len(self.table), len(self.classes)), bool)
        for entry, labels in zip(self.rows["entry"], self.rows["labels"], strict=True):
            if entry >= 0:
                told[entry, [number[label] for label in labels]] = True
        return told

    def true_rows(self, split: str) -> pd.DataFrame:
        """Annotation rows of a split with features, if their events are known; else none."""
        rows = self.rows[(self.rows["split"] == split) & (self.rows["entry"] >= 0)]
        return rows if any(len(events) for events in rows["events"]) else rows[:0]

    def scores(self, modality: Modality, entries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of entries, (n, T, C); infinity where no teacher answers, so that the clip's label stays on."""
        result = np.full((len(entries), self.features.segments, len(self.classes)), np.inf, np.float32)
        made, of_teachers = self.scorers[modality], self._of_teachers[entries]
        answered = np.flatnonzero(of_teachers >= 0)
        if made is not None and len(answered):
            for block in np.split(answered, range(BLOCK, len(answered), BLOCK)):
                result[block] = made(self.teachers.read_entries(modality, of_teachers[block]))
        return result

    def thresholds(self, modality: Modality) -> Thresholds:
        """The thresholds of a modality: as stated, above the background of training, or searched on validation."""
        teacher = self.settings.by_modality[modality]
        if not teacher.scores:
            return Thresholds(*np.zeros((2, len(self.classes)), np.float32))
        if teacher.thresholds not in ("background", "searched"):
            return given(modality, teacher, self.classes)
        with_features = self.rows[(self.rows["split"] == "train") & (self.rows["entry"] >= 0)]
        rows = self.true_rows("val") if teacher.searches else with_features.drop_duplicates("entry")
        rows = rows[self._of_teachers[rows["entry"]] >= 0]
        entries = rows["entry"].to_numpy()
        if not teacher.searches:
            return of_background(self.scores(modality, entries), self.clip_labels[entries], self.valid[entries], teacher.background)
        truth = truth_of(rows, self.classes, self.features.segments, self.features.spec["segment_seconds"])[modality]
        return searched(self.scores(modality, entries), self.told[modality][entries], truth, self.valid[entries])

    def write(self, directory: Path, thresholds: dict[Modality, Thresholds], made: dict[str, Any]) -> dict[Modality, NDArray[np.bool_]]:
        """Write the store; return the labels, (N, T, C) by modality.

        Args:
            made: what the labels are made of, for spec.json.

        Raises:
            PipelineError: a file of the features is missing or damaged; the set would state its checksum as right.
        """
        for stream in self.features.shapes:
            self.features.verify(stream, np.arange(len(self.table)))
        for name in (shard_name(stream, shard) for stream in self.features.shapes for shard in self.table["shard"].unique()):
            link_or_copy(self.features.directory / name, directory / name)
        keys: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        hard = {modality: np.zeros((*self.valid.shape, len(self.classes)), bool) for modality in MODALITIES}
        with Progress(total=len(self.table), desc=f"label {self.name}", unit="clip") as bar:
            for shard, part in self.table.groupby("shard", sort=True):
                self._write_shard(directory, int(shard), part.index.to_numpy(np.int64), thresholds, keys, hard)
                bar.update(len(part))
        shapes = {**self.features.spec["shapes"], **{stream: [len(self.classes)] for stream in STREAMS}}
        records = self.table.assign(**{f"{stream}_key": of_stream for stream, of_stream in keys.items()}).to_dict("records")
        write_documents(directory, records, {**self.features.spec, "shapes": shapes, "labels": made}, with_rows="row" in self.table)
        return hard

    def _write_shard(
        self, directory: Path, shard: int, entries: NDArray[np.int64], thresholds: dict[Modality, Thresholds],
        keys: dict[str, list[str]], hard: dict[Modality, NDArray[np.bool_]],
    ) -> None:  # fmt: skip
        """Write one shard of each label stream; hashes go to ``keys``, labels to ``hard``."""
        shape, dtype = (len(entries), self.features.segments, len(self.classes)), self.features.spec["dtype"]
        with ExitStack() as stack:
            files = {stream: stack.enter_context(begin_shard(directory / shard_name(stream, shard), shape, dtype)) for stream in STREAMS}
            for block, modality in product(np.split(entries, range(BLOCK, len(entries), BLOCK)), MODALITIES):
                of_block = self._labels(modality, block, thresholds[modality])
                hard[modality][block] = of_block[HARD[modality]]
                for stream, values in of_block.items():
                    stored = np.ascontiguousarray(values, dtype=dtype)
                    write_entries(files[stream], stored)
                    keys[stream] += [hashlib.sha256(entry).hexdigest() for entry in stored]

    def _labels(self, modality: Modality, entries: NDArray[np.int64], thresholds: Thresholds) -> dict[str, NDArray]:
        """Hard and soft labels of entries by stream, (n, T, C) each."""
        scores = self.scores(modality, entries)
        possible = self.told[modality][entries][:, None] & self.valid[entries][..., None]
        soft = soft_labels(scores, thresholds, self.settings.by_modality[modality].temperature)
        return {HARD[modality]: (scores > thresholds.hard) & possible, SOFT[modality]: soft * possible}


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or a copy where the file system cannot; no stage writes in place."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
