"""Engines: encode the clips of an extraction and leave their features in the cache.

The engine here runs in this process. It loads and prepares the next clips while others are encoded, in passes that mix clips. The stored
features of a clip depend on that clip alone (but for the last digits in tf32 on a GPU), so an interrupted and resumed run gives the same
bytes as an uninterrupted one (see :mod:`pipeline.features.passes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sized
from concurrent.futures import Future
from contextlib import closing
from typing import Protocol

from torch import Tensor
from tqdm import tqdm

from pipeline.errors import naming_clips
from pipeline.features.clip_encoder import Clip, ClipEncoder, ClipFeatures
from pipeline.features.frames import with_frames
from pipeline.features.lanes import Lanes, Throughput, ahead, as_they_come
from pipeline.features.passes import Packer, Pass

ON_THEIR_WAY = 4  # a GPU's features that are copied back while the next passes are queued


class Engine(Protocol):
    """A place to encode clips. Every engine produces the same bytes."""

    def encode(self, clips: Iterable[Clip], bar: bool = True) -> Throughput:
        """Put the features of ``clips`` that are missing into the cache.

        Args:
            clips: taken one by one, a few ahead of the encoders: they may be in the making.
            bar: show progress on a terminal.
        """
        ...


class ThisProcess:
    """An engine of threads: some load and prepare, others (just one on a GPU) encode.

    Args:
        workers: threads that load (and, without a GPU, encode).
    """

    def __init__(self, encoder: ClipEncoder, workers: int) -> None:
        self.encoder, self.workers = encoder, workers

    def encode(self, clips: Iterable[Clip], bar: bool = True) -> Throughput:
        """Encode in threads; see :meth:`Engine.encode`."""
        unfinished: dict[int, int] = {}  # id(clip) -> modalities still to come
        hidden = None if bar else True
        total, done = len(clips) if isinstance(clips, Sized) else None, 0
        with (
            Lanes(self.workers, self.encoder.card) as lanes,
            tqdm(total=total, desc="extract", unit="clip", disable=hidden) as progress,
            closing(self._features(with_frames(clips, self.encoder), lanes, unfinished)) as features,
        ):
            for made in features:
                self.encoder.store(made)
                unfinished[id(made.clip)] -= 1
                whole = unfinished[id(made.clip)] == 0
                progress.update(whole)
                done += whole
            return lanes.throughput(done)

    def _features(self, clips: Iterable[Clip], lanes: Lanes, unfinished: dict[int, int]) -> Generator[ClipFeatures]:
        """Yield features as they are reduced; few clips and passes wait ahead of the encoder, so memory stays bounded."""
        passes = self.encoder.passes
        packers: dict[str, Packer[ClipFeatures]] = {modality: Packer(encoder.size) for modality, encoder in passes.items()}
        waiting: deque[tuple[Pass[ClipFeatures], Future[Tensor]]] = deque()
        reducing: deque[tuple[ClipFeatures, Future[None]]] = deque()

        def submit(modality: str, full: Iterable[Pass[ClipFeatures]]) -> Iterator[ClipFeatures]:
            for each in full:
                waiting.append((each, lanes.encode(passes[modality].launch, each.pieces)))
                yield from finish(2 * lanes.encoders, ON_THEIR_WAY if lanes.card else 0)

        def finish(most_waiting: int, most_reducing: int) -> Iterator[ClipFeatures]:
            while len(waiting) > most_waiting:
                with lanes.waiting("passes"):
                    complete = _distribute(*waiting.popleft())
                reducing.extend((made, lanes.reduce(self.encoder.reduce, made)) for made in complete)
                yield from reduced(most_reducing)
            yield from reduced(most_reducing)

        def reduced(most: int) -> Iterator[ClipFeatures]:
            while len(reducing) > most:
                made, done = reducing.popleft()
                with lanes.waiting("passes"), naming_clips([made.clip.job.clip], f"{made.modality} encoder"):
                    done.result()
                yield made

        order = ahead
        if not isinstance(clips, Sized):
            order = as_they_come
            lanes.encode(self.encoder.warm_up)
        for clip, prepared in lanes.awaited(order(lambda clip: lanes.load(self.encoder.prepare, clip), clips, lanes.ahead)):
            unfinished[id(clip)] = len(prepared)
            for modality, rows in prepared.items():
                yield from submit(modality, packers[modality].add(ClipFeatures(clip, modality, len(rows)), rows))
        for modality, packer in packers.items():
            yield from submit(modality, packer.rest())
        yield from finish(0, 0)


def _distribute(done: Pass[ClipFeatures], output: Future[Tensor]) -> list[ClipFeatures]:
    """Give every owner its rows of a finished pass; return the features that are complete now."""
    with naming_clips([made.clip.job.clip for made, _ in done.shares], f"{done.shares[0][0].modality} encoder"):
        pieces = output.result().split([count for _, count in done.shares])
    for (made, _), piece in zip(done.shares, pieces, strict=True):
        made.outputs.append(piece)
    return [made for made, _ in done.shares if made.whole]
