"""Annotation rows of one split with features and targets, handed out in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pipeline.batch import Batch
from pipeline.datasets.base import count_lines
from pipeline.datasets.segments import rule_of
from pipeline.errors import PipelineError
from pipeline.features.store import MODALITIES, FeatureStore
from pipeline.tasks import Task
from pipeline.tasks.labels import Labels, VideoTargets
from pipeline.time_grid import ONE_SECOND, TimeGrid
from pipeline.training.streams import Features, Stored

CPU = torch.device("cpu")


@dataclass
class SplitData:
    """The rows of a split that have features.

    features: of all N rows, in the stored dtype, in memory or in the store; targets: the task's targets over all N rows.
    mask: (N, T), bool, on the CPU; False where a segment lies beyond the end of its clip.
    rows: (N,) annotation row numbers; clips: (N,) clip ids.
    missing: ids of labelled clips without features, left out (their status gives the reason).
    num_classes: C, without background; segment_seconds: length of a segment.
    device: where targets and batches are.
    grid: the moments that the T segments stand for.
    seconds: (N,), float32, on the CPU; length of each clip; None where nobody asks for it.
    """

    features: Features
    mask: Tensor
    targets: Any
    rows: list[int]
    clips: list[str]
    missing: list[str]
    num_classes: int
    segment_seconds: float
    device: torch.device = CPU
    grid: TimeGrid = ONE_SECOND
    seconds: Tensor | None = None

    def __post_init__(self) -> None:
        self.mask_there = self.mask.to(self.device)
        self.seconds_there = None if self.seconds is None else self.seconds.to(self.device)

    @property
    def stored(self) -> Stored:
        """The features in the store, before they are placed on a device."""
        assert isinstance(self.features, Stored)
        return self.features

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device, features: Features) -> SplitData:
        """Move the targets to a device where the features are, or to which they come."""
        return replace(self, features=features, targets=self.targets.to(device), device=device)

    def batches(self, chunks: Iterable[Tensor], dtype: torch.dtype) -> Iterator[tuple[Batch, Any]]:
        """Yield features (in the working ``dtype``) and targets of each chunk of row numbers, which are on the CPU."""
        for chunk in self.features.chunks(chunks):
            streams, there = {stream: values.to(dtype) for stream, values in chunk.streams.items()}, chunk.there
            visual, audio = streams.pop("visual"), streams.pop("audio")
            full = bool(self.mask[chunk.rows].all())  # asked on the host: a GPU would have to end its work first
            seconds = None if self.seconds_there is None else self.seconds_there[there]
            yield Batch(visual, audio, self.mask_there[there], streams, full, self.grid, seconds), self.targets[there]


def load_split(
    store: FeatureStore, index: pd.DataFrame, classes: list[str], split: str, task: Task, labels: Labels = "segments",
    streams: Sequence[str] = (),
) -> SplitData:  # fmt: skip
    """Find the features of one split and load its targets, in annotation order. An empty split gives N = 0.

    The features stay in the store.

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
    stored = Stored(store, entries, [*MODALITIES, *streams], CPU)
    mask = torch.from_numpy(store.valid_entries(entries))
    missing = sorted(set(of_split["clip"]) - set(clips))
    seconds = store.spec["segment_seconds"]
    truth = (list(present["events"]), classes, store.segments, seconds)
    told = list(present["labels"])
    lengths = clip_seconds(present, mask, seconds)
    if labels == "segments":
        targets = task.row_targets(*truth, clip_labels=told, rule=rule_of(index), seconds=lengths.tolist())
    else:
        targets = task.video_targets(*truth, clip_labels=told, proportions=labels == "proportions", rule=rule_of(index))
    rows = [int(row) for row in present["row"]]
    if isinstance(targets, VideoTargets):
        targets = replace(targets, rows=torch.tensor(rows, dtype=torch.int64))
    grid = TimeGrid.of(store.spec)
    return SplitData(stored, mask, targets, rows, clips, missing, len(classes), seconds, grid=grid, seconds=lengths)


def clip_seconds(rows: pd.DataFrame, mask: Tensor, segment_seconds: float) -> Tensor:
    """Length of each row's clip, (N,) float32, as the index states it; else the valid segments of ``mask`` (N, T)."""
    of_mask = pd.Series((mask.sum(dim=1) * segment_seconds).tolist(), rows.index, dtype=float)
    stated = rows["seconds"].astype(float) if "seconds" in rows else of_mask
    return torch.tensor(stated.fillna(of_mask).to_numpy(), dtype=torch.float32)


def label_stream_problems(data: SplitData, streams: Mapping[str, Tensor]) -> list[str]:
    """List faults of streams that must hold segment labels, (N, T, C) in 0..1, and the clips concerned."""
    problems = []
    for name, stream in streams.items():
        if stream.shape[2:] != (data.num_classes,):
            problems.append(f"{name}: shape {tuple(stream.shape[2:])} per segment; needs one label for each of {data.num_classes} classes")
            continue
        right = ((stream >= 0) & (stream <= 1)).all(dim=-1) | ~data.mask  # False for NaN too
        clips = [clip for clip, good in zip(data.clips, right.all(dim=1).tolist(), strict=True) if not good]
        problems += count_lines(f"{name}: clips with a label that is missing or not in 0..1", clips, limit=10)
    return problems
