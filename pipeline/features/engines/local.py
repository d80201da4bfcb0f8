"""The engine of this process: threads that encode the clips of an extraction and leave their features in the cache.

It loads and prepares the next clips while others are encoded, in passes that mix clips. The stored features of a clip depend on that clip
alone (but for the last digits in tf32 on a GPU), so an interrupted and resumed run gives the same bytes as an uninterrupted one (see
:mod:`pipeline.features.passes`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pandas as pd
from torch import Tensor

from pipeline.cache import Deliveries
from pipeline.errors import naming_clips
from pipeline.features.clip_encoder import KIND, Clip, ClipEncoder, ClipFeatures, InHand
from pipeline.features.frames import needing_frames, with_frames
from pipeline.features.lanes import Lanes, Throughput, ahead, as_they_come
from pipeline.features.passes import Packer, Pass
from pipeline.features.plan import ExtractionPlan
from pipeline.media.clip import GOOD
from pipeline.media.decoding import Arrays, decode_clips, decode_in_hand
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.progress import Progress

IN_HAND = 8  # clips that wait decoded in memory for the encoders
LOOK_SECONDS = 0.5  # between looks whether the encoders live
ON_THEIR_WAY = 4  # a GPU's features that are copied back while the next passes are queued


class ThisProcess:
    """An engine of threads: some load and prepare, others (just one on a GPU) encode.

    Args:
        workers: threads that load (and, without a GPU, encode).
    """

    def __init__(self, encoder: ClipEncoder, workers: int) -> None:
        self.encoder, self.workers = encoder, workers
        self.lost: Mapping[str, str] = {}  # a clip that ends this process ends the extraction

    def encode(self, clips: Iterable[Clip], bar: bool = True) -> Throughput:
        """Encode in threads; see :meth:`pipeline.features.engines.base.Engine.encode`."""
        unfinished: dict[int, int] = {}  # id(clip) -> modalities still to come
        total, done = len(clips) if isinstance(clips, Sized) else None, 0
        with (
            Lanes(self.workers, self.encoder.card) as lanes,
            Progress(total=total, desc="extract", unit="clip", shown=bar) as progress,
            closing(self._features(with_frames(clips, self.encoder), lanes, unfinished)) as features,
            Deliveries() as deliveries,
        ):
            for made in features:
                self.encoder.store(made)
                deliveries.add(self.encoder.cache, KIND, made.clip.keys[made.modality])
                unfinished[id(made.clip)] -= 1
                whole = unfinished[id(made.clip)] == 0
                progress.update(whole)
                done += whole
            return lanes.throughput(done)

    def decode(self, plan: ExtractionPlan, missing: list[str], media: MediaSettings) -> pd.DataFrame:
        """Decode in child processes while threads encode; see :meth:`pipeline.features.engines.base.Engine.decode`.

        It pays where a GPU encodes while the processor decodes; on a CPU the two share its cores, and one after the other is as fast.
        """
        decoded: SimpleQueue[Clip | None] = SimpleQueue()
        given_up = threading.Event()
        places = threading.Semaphore(IN_HAND)
        bare: list[Clip] = []
        in_hand: dict[str, Arrays] = {}  # of the job that is handed over next
        queued: set[tuple[str, ...]] = set()

        def in_the_making() -> Iterator[Clip]:
            while (clip := decoded.get()) is not None and not given_up.is_set():
                yield clip

        with ThreadPoolExecutor(1) as pool:
            encoding = pool.submit(self.encode, in_the_making(), False)

            def decode_in_hand_each(jobs: Iterable[Job], settings: MediaSettings) -> Iterator[tuple[Job, dict[str, Any]]]:
                for job, verdict, arrays in decode_in_hand(jobs, settings, store=True):
                    if arrays is not None:
                        in_hand[job.key] = arrays
                    yield job, verdict

            def hand_over(job: Job, verdict: dict[str, Any]) -> None:
                arrays = in_hand.pop(job.key, None)
                if encoding.done():
                    encoding.result()  # it ended early: by an error
                if verdict["status"] not in GOOD:
                    return
                clip = plan.clip({"clip": job.clip, **verdict})
                content = tuple(clip.keys.values())
                if content in queued or not plan.missing([clip]):
                    return
                queued.add(content)
                if arrays is not None:
                    while not places.acquire(timeout=LOOK_SECONDS):
                        if encoding.done():
                            encoding.result()
                    decoded.put(replace(clip, in_hand=InHand(arrays, verdict["sample_rate"], places.release)))
                elif needing_frames([clip], self.encoder):
                    bare.append(clip)
                else:
                    decoded.put(clip)

            try:
                each = decode_in_hand_each if media.keep == "verdicts" else None
                manifest = decode_clips(list(plan.jobs.values()), missing, media, hand_over, each)
            except BaseException:
                given_up.set()
                raise
            finally:
                decoded.put(None)
            print(f"extract: {encoding.result()}", flush=True)
        if bare:  # decoded before, and not kept
            print(f"extract: {self.encode(bare)}", flush=True)
        return manifest

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
