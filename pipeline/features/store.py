"""The feature store: .npy shards opened as memory maps, a parquet index, one spec document.

``visual-000.npy`` holds (clips, T, *visual_shape), ``audio-000.npy`` (clips, T, *audio_shape), in the order of ``index.parquet``
(clip, shard, offset, status, valid: (T,) bool, visual_valid, audio_valid, and the cache key of each modality, which stands for its
content). ``spec.json`` says what made the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import PipelineError

SHARD_BYTES = 512 * 2**20
MODALITIES = ("visual", "audio")


@dataclass(frozen=True)
class Entry:
    """One clip to be stored: its row of the index, and its features by modality, (T, *shape)."""

    facts: dict[str, Any]
    features: dict[str, np.ndarray]


class FeatureStore:
    """Reads a store. ``shapes`` gives the shape of one segment by modality."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "spec.json").is_file():
            raise PipelineError(f"{directory} is no feature store; `dvc repro` makes it")
        self.directory = directory
        self.spec = json.loads((directory / "spec.json").read_text())
        self.index = pd.read_parquet(directory / "index.parquet").set_index("clip")
        self.shapes = {modality: tuple(self.spec["shapes"][modality]) for modality in MODALITIES}
        self.segments = int(self.spec["segments"])
        self._shards: dict[tuple[str, int], np.ndarray] = {}

    def __contains__(self, clip: str) -> bool:
        return clip in self.index.index

    def __len__(self) -> int:
        return len(self.index)

    def read(self, modality: str, clips: Sequence[str]) -> np.ndarray:
        """(N, T, *shape) of the clips named, in that order, in the stored dtype."""
        rows = self.index.loc[list(clips)]
        result = np.empty((len(rows), self.segments, *self.shapes[modality]), dtype=self.spec["dtype"])
        for position, (shard, offset) in enumerate(zip(rows["shard"], rows["offset"], strict=True)):
            result[position] = self._shard(modality, shard)[offset]
        return result

    def valid(self, clips: Sequence[str]) -> np.ndarray:
        """(N, T) bool: False where a segment lies beyond the end of its clip."""
        return np.array([list(valid) for valid in self.index.loc[list(clips), "valid"]], dtype=bool).reshape(len(clips), self.segments)

    def _shard(self, modality: str, number: int) -> np.ndarray:
        if (modality, number) not in self._shards:
            path = self.directory / f"{modality}-{number:03d}.npy"
            self._shards[modality, number] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._shards[modality, number]


def write_store(directory: Path, entries: Iterable[Entry], count: int, spec: dict[str, Any], shard_bytes: int = SHARD_BYTES) -> None:
    """Write ``count`` entries in their order.

    Args:
        spec: must hold ``segments`` (T), ``dtype`` and ``shapes`` (of one segment, by modality).
    """
    shapes = {modality: (int(spec["segments"]), *spec["shapes"][modality]) for modality in MODALITIES}
    largest = max(int(np.prod(shape)) for shape in shapes.values()) * np.dtype(spec["dtype"]).itemsize
    per_shard = max(1, shard_bytes // largest)
    records: list[dict[str, Any]] = []
    shards: dict[str, np.ndarray] = {}
    for position, entry in enumerate(entries):
        shard, offset = divmod(position, per_shard)
        if offset == 0:
            length = min(per_shard, count - position)
            shards = {
                modality: _open_shard(directory, modality, shard, (length, *shapes[modality]), spec["dtype"]) for modality in MODALITIES
            }
        for modality in MODALITIES:
            shards[modality][offset] = entry.features[modality]
        records.append({**entry.facts, "shard": shard, "offset": offset})
    columns = ["clip", "shard", "offset", "status", "valid", "visual_valid", "audio_valid", "visual_key", "audio_key"]
    pd.DataFrame(records, columns=columns).to_parquet(directory / "index.parquet", index=False)
    (directory / "spec.json").write_text(json.dumps(spec, indent=1, sort_keys=True) + "\n")


def _open_shard(directory: Path, modality: str, number: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.lib.format.open_memmap(directory / f"{modality}-{number:03d}.npy", mode="w+", dtype=dtype, shape=shape)
