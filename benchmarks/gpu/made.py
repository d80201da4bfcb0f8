"""Made features and labels in the published shapes, as an index and a feature store on disk.

The numbers are noise, a few clips repeated: time does not depend on them.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.base import Event, Index, Row, read_index
from pipeline.datasets.writing import write_index
from pipeline.features.store import FeatureStore, begin_shard, entries_per_shard, shard_name, write_documents, write_entries
from pipeline.training.run import RunInputs
from pipeline.training.settings import Run

DIFFERENT = 16  # clips of noise, which follow one another in turn


@dataclass(frozen=True)
class MadeSet:
    """A data set: clips of each split, streams by name with the shape of a segment, classes, and the batch of its papers."""

    name: str
    clips: dict[str, int]
    streams: dict[str, tuple[int, ...]]
    classes: int
    batch: int
    segments: int = 10


_AVE = {"visual": (7, 7, 512), "audio": (128,)}
_LLP = {"visual": (8, 2048), "audio": (128,), "motion": (512,), "audio_labels": (25,), "visual_labels": (25,)}
_SMALL_LLP = {"visual": (2, 16), "audio": (8,), "motion": (4,), "audio_labels": (3,), "visual_labels": (3,)}
_UNAV = {"visual": (1024,), "audio": (128,), "motion": (1024,)}
SETS = {
    "avel": MadeSet("ave-steps", {"train": 4 * 64, "val": 64, "test": 64}, _AVE, 28, 64),
    "avvp": MadeSet("llp-steps", {"train": 4 * 128, "val": 128, "test": 128}, _LLP, 25, 128),
    "dave": MadeSet("unav-steps", {"train": 4 * 16, "val": 16, "test": 16}, _UNAV, 100, 16, segments=224),
    "ave": MadeSet("ave", {"train": 3339, "val": 402, "test": 402}, _AVE, 28, 64),
}
SMALL_SETS = {
    "avel": MadeSet("small-ave-steps", {"train": 8, "val": 4, "test": 4}, {"visual": (2, 2, 16), "audio": (8,)}, 3, 4),
    "avvp": MadeSet("small-llp-steps", {"train": 8, "val": 4, "test": 4}, _SMALL_LLP, 3, 4),
    "dave": MadeSet("small-unav-steps", {"train": 8, "val": 4, "test": 4}, {"visual": (8,), "audio": (8,), "motion": (4,)}, 3, 4),
    "ave": MadeSet("small-ave", {"train": 10, "val": 4, "test": 4}, {"visual": (2, 2, 16), "audio": (8,)}, 3, 4),
}


def made(root: Path, settings: MadeSet) -> Path:
    """Write the data set below ``root`` unless it is there; return its folder, with ``index`` and ``features`` in it."""
    place = root / settings.name
    if not place.is_dir():
        work = root / f".{settings.name}.partial"
        shutil.rmtree(work, ignore_errors=True)
        for part in ("index", "features"):
            (work / part).mkdir(parents=True)
        rows = made_rows(settings)
        write_index(Index(rows, [f"class {number}" for number in range(settings.classes)]), work / "index")
        write_features(work / "features", rows, settings)
        work.rename(place)
    return place


def made_rows(settings: MadeSet) -> list[Row]:
    """Draw one event for each clip."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in settings.clips.items():
        for number in range(count):
            onset = int(rng.integers(0, settings.segments - 1))
            event = Event("av", f"class {number % settings.classes}", float(onset), float(rng.integers(onset + 1, settings.segments + 1)))
            rows.append(Row(f"{split}{number}", split, None, (event,)))  # type: ignore[arg-type]
    return rows


def write_features(directory: Path, rows: list[Row], settings: MadeSet) -> None:
    """Write the feature store."""
    rng = np.random.default_rng(1)
    noise = {
        name: rng.standard_normal((DIFFERENT, settings.segments, *shape), np.float32).clip(0, 1 if name.endswith("labels") else None)
        for name, shape in settings.streams.items()
    }
    spec: dict[str, Any] = {
        "segments": settings.segments,
        "segment_seconds": 1.0,
        "dtype": "float32",
        "shapes": {name: list(shape) for name, shape in settings.streams.items()},
    }
    per_shard = entries_per_shard(spec)
    for first in range(0, len(rows), per_shard):
        numbers = range(first, min(first + per_shard, len(rows)))
        with ExitStack() as stack:
            for name, clips in noise.items():
                path = directory / shard_name(name, first // per_shard)
                stream = stack.enter_context(begin_shard(path, (len(numbers), *clips.shape[1:]), "float32"))
                for number in numbers:
                    write_entries(stream, clips[number % DIFFERENT])
    inside = [True] * settings.segments
    known = {"status": "ok", "valid": inside, "visual_valid": inside, "audio_valid": inside}
    records = [
        {"clip": row.clip, "shard": number // per_shard, "offset": number % per_shard, **known, **{f"{name}_key": "" for name in noise}}
        for number, row in enumerate(rows)
    ]
    write_documents(directory, records, spec)


def run_inputs(place: Path, task: str, method: str, settings: dict[str, Any], seeds: list[int]) -> RunInputs:
    """The inputs of a run on a made data set."""
    index, classes = read_index(place / "index")
    run = Run(task=task, method=method, features="made", seeds=seeds)
    return RunInputs(method, run, settings, FeatureStore(place / "features"), index, classes)
