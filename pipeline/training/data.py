"""Annotation rows of one split with features and targets, as tensors to be sliced into batches."""

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
    rows: (N,) annotation row numbers; clips: (N,) clip ids.
    missing: ids of labelled clips without features, left out (their status gives the reason).
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
        """Take features (in the working ``dtype``) and targets of some rows."""
        part = self.features[rows]
        others = {name: stream.to(dtype) for name, stream in part.others.items()}
        return Batch(part.visual.to(dtype), part.audio.to(dtype), part.mask, others, part.full), self.targets[rows]


def load_split(
    store: FeatureStore, index: pd.DataFrame, classes: list[str], split: str, task: Task, labels: Labels = "segments",
    streams: Sequence[str] = (),
) -> SplitData:  # fmt: skip
    """Load features and targets of one split, in annotation order. An empty split gives N = 0.

    Args:
        labels: form of the labels. Weak labels (all but ``segments``) of the training split include the split ``negative``: clips of
            other categories, without an event, that some data sets add for weak supervision.
        streams: further streams of the feature set to read.

    Raises:
        PipelineError: the feature set does not have a stream.
    """
    if unknown := [name for name in streams if name not in store.shapes]:
        raise PipelineError(f"{store.directory} has no stream {', '.join(unknown)} (there are: {', '.join(store.shapes)})")
    of_split = index[index["split"].isin([split] if labels == "segments" or split != "train" else [split, "negative"])]
    entries = store.entries(of_split)
    present, entries = of_split[entries >= 0], entries[entries >= 0]
    clips = list(present["clip"])
    valid = torch.from_numpy(store.valid_entries(entries))
    features = Batch(
        torch.from_numpy(store.read_entries("visual", entries)),
        torch.from_numpy(store.read_entries("audio", entries)),
        valid,
        {name: torch.from_numpy(store.read_entries(name, entries)) for name in streams},
        full=bool(valid.all()),
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
    """List faults of streams that must hold segment labels, (C,) in 0..1 each, and the clips concerned."""
    problems = []
    for name in names:
        stream = data.features.others[name]
        if stream.shape[2:] != (data.num_classes,):
            problems.append(f"{name}: shape {tuple(stream.shape[2:])} per segment; needs one label for each of {data.num_classes} classes")
            continue
        right = ((stream >= 0) & (stream <= 1)).all(dim=-1) | ~data.features.mask  # False for NaN too
        clips = [clip for clip, good in zip(data.clips, right.all(dim=1).tolist(), strict=True) if not good]
        problems += count_lines(f"{name}: clips with a label that is missing or not in 0..1", clips, limit=10)
    return problems
