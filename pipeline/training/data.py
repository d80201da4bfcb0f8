"""Annotation rows of one split with their features and targets, as tensors ready to be sliced into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pipeline.batch import Batch
from pipeline.datasets.base import count_lines
from pipeline.datasets.segments import rule_of
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.tasks import Task
from pipeline.tasks.labels import Labels, VideoTargets


@dataclass
class SplitData:
    """The rows of a split that have features.

    features: Batch over all N rows, in the stored dtype.
    targets: the task's targets over all N rows.
    rows: (N,) annotation row numbers; clips: their ids.
    missing: ids of labelled clips left out because they have no features (their status says why).
    num_classes: C, without background; segment_seconds: length of a segment.
    """

    features: Batch
    targets: Any
    rows: list[int]
    clips: list[str]
    missing: list[str]
    num_classes: int
    segment_seconds: float

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> SplitData:
        return replace(self, features=self.features.to(device), targets=self.targets.to(device))

    def batch(self, rows: Tensor, dtype: torch.dtype) -> tuple[Batch, Any]:
        """Features (in the working ``dtype``) and targets of some rows."""
        part = self.features[rows]
        others = {name: stream.to(dtype) for name, stream in part.others.items()}
        return Batch(part.visual.to(dtype), part.audio.to(dtype), part.mask, others), self.targets[rows]


def load_split(
    store: FeatureStore, index: pd.DataFrame, classes: list[str], split: str, task: Task, labels: Labels = "segments",
    streams: Sequence[str] = (),
) -> SplitData:  # fmt: skip
    """Features and targets of one split, in annotation order. An empty split gives N = 0.

    Args:
        labels: what is told of each row. Weak ones (all but ``segments``) of the training split come with the split ``negative``:
            clips of other categories, without an event, that some data sets add for weak supervision.
        streams: of the feature set, to be read beside the visual and the audio one.

    Raises:
        PipelineError: a stream that the feature set does not have.
    """
    if unknown := [name for name in streams if name not in store.shapes]:
        raise PipelineError(f"{store.directory} has no stream {', '.join(unknown)} (there are: {', '.join(store.shapes)})")
    of_split = index[index["split"].isin([split] if labels == "segments" or split != "train" else [split, "negative"])]
    entries = store.entries(of_split)
    present, entries = of_split[entries >= 0], entries[entries >= 0]
    clips = list(present["clip"])
    features = Batch(
        torch.from_numpy(store.read_entries("visual", entries)),
        torch.from_numpy(store.read_entries("audio", entries)),
        torch.from_numpy(store.valid_entries(entries)),
        {name: torch.from_numpy(store.read_entries(name, entries)) for name in streams},
    )
    missing = sorted(set(of_split["clip"]) - set(clips))
    seconds = store.spec["segment_seconds"]
    truth = (list(present["events"]), classes, store.segments, seconds)
    told = list(present["labels"])
    if labels == "segments":
        targets = task.row_targets(*truth, clip_labels=told, rule=rule_of(index))
    else:
        targets = task.video_targets(*truth, clip_labels=told, proportions=labels == "proportions", rule=rule_of(index))
    rows = [int(row) for row in present["row"]]
    if isinstance(targets, VideoTargets):
        targets = replace(targets, rows=torch.tensor(rows, dtype=torch.int64))
    return SplitData(features, targets, rows, clips, missing, len(classes), seconds)


def label_stream_problems(data: SplitData, names: Sequence[str]) -> list[str]:
    """What is wrong with streams that are to hold labels of segments, (C,) in 0..1, and in which clips."""
    problems = []
    for name in names:
        stream = data.features.others[name]
        if stream.shape[2:] != (data.num_classes,):
            problems.append(f"{name}: {tuple(stream.shape[2:])} a segment, and one label for each of {data.num_classes} classes is needed")
            continue
        right = ((stream >= 0) & (stream <= 1)).all(dim=-1) | ~data.features.mask  # false for NaN, too
        clips = [clip for clip, good in zip(data.clips, right.all(dim=1).tolist(), strict=True) if not good]
        problems += count_lines(f"{name}: clips with a label that is missing or not in 0..1", clips, limit=10)
    return problems
