"""Engines: encode the clips of an extraction and leave their features in the cache.

The engine here runs in this process. It loads and prepares the next clips while others are encoded, in passes that mix clips. The stored
features of a clip depend on that clip alone, so an interrupted and resumed run gives the same bytes as an uninterrupted one (see
:mod:`pipeline.features.passes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol

from torch import Tensor
from tqdm import tqdm

from pipeline.errors import naming_clips
from pipeline.features.encode import Clip, ClipEncoder, ClipFeatures
from pipeline.features.lanes import Lanes, Throughput, ahead
from pipeline.features.passes import Packer, Pass


class Engine(Protocol):
    """A place to encode clips. Every engine produces the same bytes."""

    def encode(self, clips: list[Clip], bar: bool = True) -> Throughput:
        """Put the features of ``clips`` that are missing into the cache; ``bar``: show progress on a terminal."""
        ...


class ThisProcess:
    """An engine of threads: some load and prepare, others (just one on a GPU) encode.

    Args:
        workers: threads that load (and, without a GPU, encode).
    """

    def __init__(self, encoder: ClipEncoder, workers: int) -> None:
        self.encoder, self.workers = encoder, workers

    def encode(self, clips: list[Clip], bar: bool = True) -> Throughput:
        """Encode in threads; see :meth:`Engine.encode`."""
        unfinished: dict[int, int] = {}  # id(clip) -> modalities still to come
        hidden = None if bar else True
        with (
            Lanes(self.encoder.device, self.workers) as lanes,
            tqdm(total=len(clips), desc="extract", unit="clip", disable=hidden) as progress,
        ):
            for made in self._features(clips, lanes, unfinished):
                self.encoder.store(made)
                unfinished[id(made.clip)] -= 1
                progress.update(unfinished[id(made.clip)] == 0)
            return lanes.throughput(len(clips))

    def _features(self, clips: list[Clip], lanes: Lanes, unfinished: dict[int, int]) -> Iterator[ClipFeatures]:
        """Yield features as they are completed; few clips and passes wait ahead of the encoder, so memory stays bounded."""
        passes = self.encoder.passes
        packers: dict[str, Packer[ClipFeatures]] = {modality: Packer(encoder.size) for modality, encoder in passes.items()}
        waiting: deque[tuple[Pass[ClipFeatures], Future[Tensor]]] = deque()

        def submit(modality: str, full: Iterable[Pass[ClipFeatures]]) -> Iterator[ClipFeatures]:
            for each in full:
                waiting.append((each, lanes.encode(passes[modality], each.rows)))
                while len(waiting) > 2 * lanes.encoders:
                    yield from _distribute(*waiting.popleft())

        for clip, prepared in ahead(lambda clip: lanes.load(self.encoder.prepare, clip), clips, lanes.workers + 1):
            unfinished[id(clip)] = len(prepared)
            for modality, rows in prepared.items():
                yield from submit(modality, packers[modality].add(ClipFeatures(clip, modality, len(rows)), rows))
        for modality, packer in packers.items():
            yield from submit(modality, packer.rest())
        while waiting:
            yield from _distribute(*waiting.popleft())


def _distribute(done: Pass[ClipFeatures], output: Future[Tensor]) -> Iterator[ClipFeatures]:
    """Give every owner its rows of a finished pass; yield the features that are complete now."""
    with naming_clips([made.clip.job.clip for made, _ in done.shares], f"{done.shares[0][0].modality} encoder"):
        pieces = output.result().split([count for _, count in done.shares])
    for (made, _), piece in zip(done.shares, pieces, strict=True):
        made.outputs.append(piece)
        if made.whole:
            yield made
