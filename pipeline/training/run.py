"""Inputs of a run: settings, features and labels, and the fingerprint of everything that determines its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.cache import file_sha256, fingerprint
from pipeline.closure import digests
from pipeline.datasets.folds import Folds
from pipeline.errors import InputProblems
from pipeline.features.store import MODALITIES, FeatureStore
from pipeline.made_with import WORKING_SETTINGS
from pipeline.methods import METHODS, Method, MethodConfig, create
from pipeline.tasks import TASKS, Task
from pipeline.training.choices import TRAINING_PLUMBING, chosen_code
from pipeline.training.data import SplitData, label_stream_problems, load_split
from pipeline.training.members import Member, members_of
from pipeline.training.settings import Run, TrainSettings


@dataclass(frozen=True)
class RunInputs:
    """Everything a run is trained and evaluated on."""

    name: str
    run: Run
    settings: dict[str, Any]  # of the method, overrides applied
    store: FeatureStore
    index: pd.DataFrame
    classes: list[str]
    made_with: dict[str, Any] = field(default_factory=dict)  # params and machines that made index and features: pipeline.made_with
    folds: Folds | None = None

    @property
    def task(self) -> Task:
        return TASKS.get(self.run.task)

    @property
    def members(self) -> list[Member]:
        """The trainings of the run."""
        return members_of(self.run.seeds, range(self.folds.number) if self.folds is not None else None)

    def of_fold(self, fold: int | None) -> RunInputs:
        """The inputs with the splits of one fold; None: as they are."""
        if self.folds is None or fold is None:
            return self
        return replace(self, index=self.folds.index_of(self.index, fold), folds=None)

    @cached_property
    def config(self) -> MethodConfig:
        """The method's settings, checked, with its defaults."""
        return METHODS.get(self.run.method).Config(**self.settings)

    def build(self) -> Method:
        """The method with fresh weights."""
        return create(self.run.method, **shape_arguments(self.store.shapes), num_classes=len(self.classes), **self.settings)

    def build_first(self) -> Method | None:
        """The network to train before the method, with fresh weights; None if the method needs none."""
        if self.config.first is None:
            return None
        name, settings = self.config.first_method or self.run.method, self.config.first.model_dump()
        return create(name, **shape_arguments(self.store.shapes), num_classes=len(self.classes), **settings)

    def remark(self) -> str | None:
        """A sentence if the method weighs positions and the features have only one; None otherwise."""
        shape = self.store.shapes["visual"]
        if not self.config.attends_to_positions or (len(shape) == 3 and shape[0] * shape[1] > 1):
            return None
        return (
            f"{self.name}: {self.run.features} has one position per segment, so {self.run.method} trains without its spatial attention;"
            " choose features with a map (pool: map), or mean it so"
        )

    def split(self, name: str) -> SplitData:
        """A split to predict and score, with complete targets."""
        return load_split(self.store, self.index, self.classes, name, self.task, streams=self.config.streams)

    def training_split(self) -> SplitData:
        """The training split, its targets restricted to the labels that the method's supervision allows."""
        streams, labels = self.config.streams, self.config.label_streams
        told = self.config.training_labels
        data = load_split(self.store, self.index, self.classes, "train", self.task, told, (*streams, *labels))
        if problems := label_stream_problems(data, {name: data.stored.read(name) for name in labels}):
            raise InputProblems(f"{self.name}: labels of segments in {self.store.directory}", problems)
        return data

    def fingerprint(self, train: TrainSettings) -> str:
        """Identify everything that determines the weights: they are trained again when it changes."""
        code = digests([Path(__file__).with_name("train.py"), *chosen_code(self.run, self.settings)], cut=TRAINING_PLUMBING)
        features = [file_sha256(self.store.directory / name) for name in ("index.parquet", "spec.json")]  # with keys of all features
        files = {setting: file_sha256(path) for setting, path in self.config.files.items()}
        settings = self.run.model_dump(), self.settings, train.model_dump(exclude=WORKING_SETTINGS)
        folds = [] if self.folds is None else [self.folds.number, self.folds.clips]
        return fingerprint(code, settings, features, files, self.annotations(), self.classes, *folds)

    def annotations(self) -> list[list[Any]]:
        """The index as plain values, without the columns that training does not read: a file's place, size and hash."""
        plain = self.index.drop(columns=["file", "bytes", "sha256"], errors="ignore")
        return json.loads(plain.to_json(orient="values", double_precision=15))


def shape_arguments(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Turn the shapes of one segment by stream into arguments for :func:`pipeline.methods.create`."""
    others = {stream: shape for stream, shape in shapes.items() if stream not in MODALITIES}
    return {"visual_shape": shapes["visual"], "audio_shape": shapes["audio"], "other_shapes": others}
