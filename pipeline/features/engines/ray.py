"""The engine of a Ray cluster: one Ray Data pipeline, in which CPU tasks decode and actors encode.

With GPUs an actor holds one of them, and Ray keeps the decoding tasks, on any node, a bounded number of blocks ahead. Without, an actor
holds a core and decodes its own clips: no core waits for another or for Ray's next task, and no frames travel. So it does where clips are
only decoded. An actor encodes by the engine of :mod:`.local`, so passes and threads, and with them the bytes, are the same. Finished clips
lie in the cache at once, so what is started again does only what is missing.

A clip whose worker dies (memory ran out, native code crashed) is tried again, in the end with a worker of its own, and is given up with a
status when that dies as well. When a node is lost, its actors would wait for another like it: the pipeline is started again on those left,
with what is missing. Errors that the local engine would end with end this one too.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.errors import PipelineError
from pipeline.features.engines.on_node import Answer, Decode, Encode, Work, decode
from pipeline.media.decoding import decode_clips
from pipeline.media.guard import Crashed
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.progress import Progress
from pipeline.ray_cluster import connected
from pipeline.ray_nodes import Cluster, NodeLost, Place

if TYPE_CHECKING:
    import pandas as pd
    import ray.data

    from pipeline.features.clip_encoder import Clip, ClipEncoder
    from pipeline.features.lanes import Throughput
    from pipeline.features.plan import ExtractionPlan

TRIES = 3  # of a clip whose worker dies, among others and then alone
AT_ONCE = 20_000  # clips of one execution: Ray's driver keeps a record of each block
PASSES = 32  # of an actor between two answers: the last is padded
MOST_CLIPS = 16  # of an actor's call, which holds their frames
BLOCK = 4  # clips that one task, or one call of an actor without encoders, decodes
WATCH_SECONDS = 2.0  # without an answer before the nodes are counted
DECODED = {"status": "ok"}
KILLED = "its worker died each time that it was tried, in the end alone"


class RayEngine:
    """An engine on the nodes of a Ray cluster, connected while it works.

    Args:
        address: ``machine.address``.
        encoder: the encoders of a feature set; None where clips are only decoded.

    Attributes:
        lost: the reason for each clip that was given up, by its job's key.
    """

    def __init__(self, address: str, encoder: ClipEncoder | None = None) -> None:
        self.address, self.encoder = address, encoder
        self.lost: Mapping[str, str] = {}
        self._actors, self._seconds = 1, 0.0

    def decode_each(self, jobs: Iterable[Job], settings: MediaSettings) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Decode on the nodes; see :func:`pipeline.media.decoding.decode_each`."""
        for work, answer in self._answers([Work(job) for job in jobs]):
            yield work.job, answer.verdict

    def encode(self, clips: Iterable[Clip], bar: bool = True) -> Throughput:
        """Encode on the nodes; see :meth:`pipeline.features.engines.base.Engine.encode`."""
        works = [Work(clip.job, clip.keys, DECODED) for clip in clips]
        answers = Progress(self._answers(works), desc="extract", total=len(works), unit="clip", shown=bar)
        return self._throughput(answer for _, answer in answers)

    def decode(self, plan: ExtractionPlan, missing: list[str], media: MediaSettings) -> pd.DataFrame:
        """Decode and encode on the nodes, in one pipeline; see :meth:`pipeline.features.engines.base.Engine.decode`."""
        answers: list[Answer] = []

        def both(jobs: Iterable[Job], _: MediaSettings) -> Iterator[tuple[Job, dict[str, Any]]]:
            for work, answer in self._answers([Work(job, plan.keys(job)) for job in jobs]):
                answers.append(replace(answer, verdict={}))
                yield work.job, answer.verdict

        manifest = decode_clips(list(plan.jobs.values()), missing, media, decode=both)
        if answers:
            print(f"extract: {self._throughput(answers)}", flush=True)
        if decoded_before := [clip for clip in plan.missing(plan.clips(manifest)) if clip.job.key not in self.lost]:
            print(f"extract: {self.encode(decoded_before)}", flush=True)
        return manifest

    def _throughput(self, answers: Iterable[Answer]) -> Throughput:
        from pipeline.features.lanes import Throughput

        total: Counter[str] = Counter()
        for answer in answers:
            total.update(answer.busy)
        card = total["card"] / self._actors if "card" in total else None
        waited = total["for_clips"] / self._actors, total["for_passes"] / self._actors
        threads = (total["loading"], total["encoding"], self._actors, self._actors)
        return Throughput(round(total["clips"]), self._seconds, *threads, card, *waited)

    def _answers(self, works: Sequence[Work]) -> Iterator[tuple[Work, Answer]]:
        """Yield every work with its answer, as they come; works whose workers died come last.

        Raises:
            PipelineError: what a worker could not do, as soon as one says so.
        """
        left = {work.job.key: work for work in works}
        if works:
            job, began = works[0].job, time.monotonic()
            shared = job.cache_root if isinstance(job.cache_root, Path) else None
            with connected(self.address, [Path(job.file).absolute().parent], shared) as cluster:
                for answer in self._all(left, cluster):
                    if answer.said:
                        tqdm.write(answer.said, sys.stderr)
                    if answer.problem:
                        raise PipelineError(answer.problem)
                    if answer.fault:
                        raise RuntimeError(f"on a node of the Ray cluster:\n{answer.fault}")
                    self._seconds = time.monotonic() - began
                    yield left.pop(answer.key), answer
        for key, work in left.items():
            self.lost = {**self.lost, key: KILLED}
            yield work, Answer(key, {"status": Crashed.status, "reason": KILLED})

    def _all(self, left: Mapping[str, Work], cluster: Cluster) -> Iterator[Answer]:
        """Yield the answers of works, none for those whose workers died.

        Args:
            left: the works without an answer by key; whoever takes an answer removes its work.
        """
        for alone in (False, True):
            first = 0
            works = list(left.values())
            while first < len(works):
                print(f"Ray: {cluster}", flush=True)
                some = [work for work in works[first : first + AT_ONCE] if work.job.key in left]
                try:
                    for row in _watched(self._pipeline(some, cluster, alone), cluster) if some else ():
                        answer = pickle.loads(row["answer"])
                        if answer.key in left:
                            yield answer
                    first += AT_ONCE
                except NodeLost as error:
                    print(f"Ray: {error}; going on without", file=sys.stderr, flush=True)
                    cluster = Cluster.now()

    def _pipeline(self, works: Sequence[Work], cluster: Cluster, alone: bool) -> ray.data.Dataset:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = -1  # what has no answer is tried again
        place, encoder, job = Place.here(), self.encoder, works[0].job
        on_gpu = encoder is not None and encoder.device.type == "cuda"
        if on_gpu and not cluster.gpus:
            raise PipelineError("this machine has a GPU, and no node of the Ray cluster has; set features.*.device: cpu, or add such nodes")
        rows = [{"work": pickle.dumps(work)} for work in works]
        frames = job.settings.frames_per_segment(job.segment_seconds) * job.segments
        clips = max(1, min(MOST_CLIPS, PASSES * encoder.passes["visual"].size // frames)) if encoder else BLOCK
        clips = 1 if alone else clips
        data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // min(clips, BLOCK)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray means to name the options of its workers otherwise from its release 2.64 on
            arguments: tuple[Any, ...] = (place,)
            if encoder is not None:
                arguments = (place, encoder.settings.model_copy(update={"device": encoder.device.type}), job.cache_root)
            if on_gpu:
                data = data.map(partial(decode, place=place), num_cpus=1, max_retries=TRIES - 1)
            self._actors = max(1, min(cluster.gpus if on_gpu else cluster.cpus, -(-len(rows) // clips)))
            return data.map_batches(
                Decode if encoder is None else Encode,
                fn_constructor_args=arguments,
                batch_size=clips,
                compute=ray.data.ActorPoolStrategy(size=self._actors, max_tasks_in_flight_per_actor=1 if alone else 2),
                num_cpus=0 if on_gpu else 1,
                num_gpus=1 if on_gpu else 0,
                max_restarts=-1,
                max_task_retries=TRIES - 1,
            )


def _watched(data: ray.data.Dataset, cluster: Cluster) -> Iterator[dict[str, Any]]:
    """Yield a pipeline's rows as they come.

    Raises:
        NodeLost: a node of the cluster is gone, and no row came for a while. Ray Data itself would wait for another node.
        PipelineError: the cluster is gone.
    """
    import ray

    rows: SimpleQueue[dict[str, Any] | BaseException | None] = SimpleQueue()

    def take() -> None:
        try:
            for row in data.iter_rows():
                rows.put(row)
            rows.put(None)
        except BaseException as error:
            rows.put(error)

    threading.Thread(target=take, daemon=True).start()
    try:
        while True:
            try:
                row = rows.get(timeout=WATCH_SECONDS)
            except Empty:
                cluster.check_nodes()
                continue
            if row is None:
                return
            if isinstance(row, ray.exceptions.RayError):
                cluster.check_nodes()
                reason = " ".join(str(row).split())[:500]
                raise PipelineError(f"the Ray cluster gave up: {reason}; finished clips are kept") from row
            if isinstance(row, BaseException):
                raise row
            yield row
    finally:
        data._synchronize_progress_bar()  # ends the execution, and with it the thread; nothing public does
