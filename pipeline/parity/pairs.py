"""Two feature stores side by side: the clips, segments and layers that can be compared.

Shape letters: N clips, T segments, D feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore

CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Layer:
    """One array of both stores, as it is compared.

    shape: of one segment.
    pooled: compare the mean over everything but the channels.
    problem: why it cannot be compared; empty if it can.
    """

    name: str
    modality: str
    shape: tuple[int, ...]
    pooled: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Sample:
    """Features of some clips in both stores.

    ours, published: (N, T, *shape) float32.
    mask: (N, T) bool, the segments that count.
    fit: (N,) bool, the clips used for fitting; the others judge the fit.
    """

    ours: np.ndarray
    published: np.ndarray
    mask: np.ndarray
    fit: np.ndarray

    def but(self, **changes: np.ndarray) -> Sample:
        return replace(self, **changes)


class Pairs:
    """The clips in both stores, in alphabetical order.

    Raises:
        PipelineError: they share no clip, or cut clips into different numbers of segments.
    """

    def __init__(self, ours: FeatureStore, published: FeatureStore) -> None:
        self.ours, self.published = ours, published
        here, there = set(ours.index.index), set(published.index.index)
        self.clips = sorted(here & there)
        self.only_ours, self.only_published = len(here - there), len(there - here)
        if not self.clips:
            raise PipelineError(
                f"{ours.directory} and {published.directory} share no clip (first ids: {min(here, default='none')!r} and "
                f"{min(there, default='none')!r}); they are compared by clip id"
            )
        if ours.segments != published.segments:
            raise PipelineError(
                f"{ours.directory} has {ours.segments} segments a clip, {published.directory} {published.segments}; "
                "extract ours with dataset.segments and segment_seconds of the published ones"
            )

    def layers(self) -> list[Layer]:
        """List every modality of both stores, maps also as their mean, or as their mean alone where only that compares."""
        found = []
        for modality in self.ours.shapes:
            if modality not in self.published.shapes:
                continue
            ours, published = self.ours.shapes[modality], self.published.shapes[modality]
            if ours == published:
                found.append(Layer(modality, modality, ours))
            if ours[-1] == published[-1] and max(len(ours), len(published)) > 1:
                found.append(Layer(f"{modality} (mean)", modality, ours[-1:], pooled=True))
            if ours[-1] != published[-1]:
                problem = f"ours is {ours} for a segment, published {published}: another encoder or another layer of it"
                if sorted(ours) == sorted(published):
                    problem = f"ours is {ours} for a segment, published {published}: its axes are in another order; import it as {ours}"
                found.append(Layer(modality, modality, ours, problem=problem))
        return found

    def read(self, layer: Layer, clips: Sequence[str], ours_of: Sequence[str] | None = None) -> Sample:
        """Read the given clips; segments that are invalid or not finite in either store do not count.

        Args:
            ours_of: read these clips from our store instead.
        """
        ours, here = _read(self.ours, layer, clips if ours_of is None else ours_of)
        published, there = _read(self.published, layer, clips)
        return Sample(ours, published, here & there, fit=np.arange(len(clips)) % 2 == 0)

    def chunks(self, layer: Layer) -> Iterator[tuple[list[str], Sample]]:
        """Yield all clips, a few at a time, in bounded memory."""
        size = max(1, CHUNK_BYTES // self.clip_bytes(layer))
        for start in range(0, len(self.clips), size):
            clips = self.clips[start : start + size]
            yield clips, self.read(layer, clips)

    def sample(self, layer: Layer, most_bytes: int, most_clips: int = 400) -> tuple[list[str], Sample]:
        """Read as many clips as fit, evenly spread, to try hypotheses on."""
        count = max(2, min(most_clips, most_bytes // self.clip_bytes(layer)))
        places = np.unique(np.linspace(0, len(self.clips) - 1, count).round().astype(int))
        clips = [self.clips[place] for place in places]
        return clips, self.read(layer, clips)

    def clip_bytes(self, layer: Layer) -> int:
        """Bytes of one clip as float32, before pooling."""
        widest = max(int(np.prod(store.shapes[layer.modality])) for store in (self.ours, self.published))
        return self.ours.segments * widest * 4


def _read(store: FeatureStore, layer: Layer, clips: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read values (N, T, *shape) float32, and which segments count, (N, T) bool."""
    values = np.asarray(store.read(layer.modality, clips), np.float32)
    mask = store.valid(clips) & _valid(store, layer.modality, clips) & np.isfinite(values).all(tuple(range(2, values.ndim)))
    return (pooled(values) if layer.pooled else values), mask


def pooled(values: np.ndarray) -> np.ndarray:
    """Mean over positions, frames or both: (N, T, ..., D) -> (N, T, D)."""
    return values.mean(tuple(range(2, values.ndim - 1))) if values.ndim > 3 else values


def _valid(store: FeatureStore, modality: str, clips: Sequence[str]) -> np.ndarray:
    """The index's mask of the modality (False: no sound or no picture), (N, T) bool; all True without one."""
    column = f"{modality}_valid"
    if column not in store.index or store.index.loc[list(clips), column].isna().any():
        return np.ones((len(clips), store.segments), bool)
    values: pd.Series = store.index.loc[list(clips), column]
    return np.array([list(valid) for valid in values], bool).reshape(len(clips), store.segments)
