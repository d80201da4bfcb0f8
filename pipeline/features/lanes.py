"""Threads that load the next clips while others encode, never more busy threads than cores.

Threads rather than processes: reading an entry, resizing frames and running the networks all release the interpreter's lock
(benchmarks/RESULTS.md has the measurement), and prepared clips need not be copied between processes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Any, Literal, Protocol, TypeVar

import torch

LOADERS = 2  # threads of :func:`load_ahead`
AHEAD_OF_CARD = 6  # clips; a clip's frames wait whole, in pinned memory, and reading one takes little
Item = TypeVar("Item")
Result = TypeVar("Result")


class Timed(Protocol):
    """A device that counts its busy time."""

    def busy(self) -> float:
        """Seconds of work so far, waiting for what is queued."""
        ...


@dataclass(frozen=True)
class Throughput:
    """Time spent by an extraction; ``loading`` and ``encoding`` are busy seconds, summed over threads.

    With a GPU, ``card`` is its busy seconds, and ``for_clips`` and ``for_passes`` are those in which the engine waited for either.
    """

    clips: int
    seconds: float
    loading: float
    encoding: float
    loaders: int
    encoders: int
    card: float | None = None
    for_clips: float = 0.0
    for_passes: float = 0.0

    def __str__(self) -> str:
        """Summarize in one line.

        E.g. "24 clips in 8.1 s, 2.96 clips/s; loading busy 21 % of 2 threads, encoding 78 % of 2: encode-bound", or with a GPU
        "32 clips in 2.9 s, 11.03 clips/s; loading busy 9 % of 16 threads, the GPU 41 %: decode-bound".
        """
        seconds = max(self.seconds, 1e-9)
        loading, encoding = self.loading / (self.loaders * seconds), self.encoding / (self.encoders * seconds)
        shares = f"loading busy {100 * loading:.0f} % of {self.loaders} threads"
        if self.card is None:
            shares += f", encoding {100 * encoding:.0f} % of {self.encoders}"
            bound = "decode" if loading > encoding else "encode"
        else:
            shares += f", the GPU {100 * self.card / seconds:.0f} %"
            bound = "decode" if self.for_clips > self.for_passes else "encode"
        return f"{self.clips} clips in {self.seconds:.1f} s, {self.clips / seconds:.2f} clips/s; {shares}: {bound}-bound"


class Lanes:
    """The threads of one extraction; a context manager.

    On a CPU, loading and encoding share ``workers`` threads, each computing on one core: a network that ran on all cores would wait at
    every layer for the core that a loader holds. A GPU gets one more thread, which alone queues work on it; the others load.

    Args:
        workers: threads of the pool.
        card: the GPU, None without one.
    """

    def __init__(self, workers: int, card: Timed | None = None) -> None:
        self.workers, self.card = workers, card
        self.encoders = 1 if card else workers
        self.ahead = min(workers, AHEAD_OF_CARD) + 1 if card else workers + 1  # clips loaded before they are encoded
        self._pool = ThreadPoolExecutor(workers)
        self._encoding = ThreadPoolExecutor(1) if card else self._pool
        self._busy = {"loading": 0.0, "encoding": 0.0}
        self._waited = {"clips": 0.0, "passes": 0.0}
        self._lock = threading.Lock()

    def __enter__(self) -> Lanes:
        self._threads_of_torch = torch.get_num_threads()
        torch.set_num_threads(1)  # inherited by the threads started from here on
        self._started = time.monotonic()
        self._card_before = self.card.busy() if self.card else 0.0
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._encoding):
            pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self._threads_of_torch)

    def load(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        return self._pool.submit(self._timed, "loading", function, *arguments)

    def encode(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        return self._encoding.submit(self._timed, "encoding", function, *arguments)

    def reduce(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Run short work on what passes returned: behind the passes on a GPU, at once on a CPU."""
        if self.card:
            return self.encode(function, *arguments)
        done: Future[Result] = Future()
        done.set_result(function(*arguments))
        return done

    @contextmanager
    def waiting(self, what: Literal["clips", "passes"]) -> Iterator[None]:
        """Count the time in the block as waiting; for the one thread that hands clips to passes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._waited[what] += time.monotonic() - began

    def awaited(self, clips: Iterable[Item]) -> Iterator[Item]:
        """Yield the clips, counting the time until each is there as waiting."""
        remaining = iter(clips)
        while True:
            with self.waiting("clips"):
                following = list(islice(remaining, 1))
            if not following:
                return
            yield following[0]

    def throughput(self, clips: int) -> Throughput:
        card = self.card.busy() - self._card_before if self.card else None
        seconds = time.monotonic() - self._started
        threads = (self._busy["loading"], self._busy["encoding"], self.workers, self.encoders)
        return Throughput(clips, seconds, *threads, card, self._waited["clips"], self._waited["passes"])

    def _timed(self, kind: str, function: Callable[..., Result], *arguments: Any) -> Result:
        began = time.monotonic()
        try:
            return function(*arguments)
        finally:
            with self._lock:
                self._busy[kind] += time.monotonic() - began


def ahead(start: Callable[[Item], Future[Result]], items: Iterable[Item], depth: int) -> Iterator[tuple[Item, Result]]:
    """Yield (item, result) in order, at most ``depth`` started items ahead of the consumer: memory stays bounded."""
    remaining = iter(items)
    pending = deque((item, start(item)) for item in islice(remaining, depth))
    while pending:
        item, future = pending.popleft()
        result = future.result()
        for following in islice(remaining, 1):
            pending.append((following, start(following)))
        yield item, result


def as_they_come(start: Callable[[Item], Future[Result]], items: Iterable[Item], depth: int) -> Iterator[tuple[Item, Result]]:
    """Like :func:`ahead` for items in the making: a thread takes them, so no result waits for the item after it."""
    started: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()
    places, given_up = threading.Semaphore(depth), threading.Event()

    def take() -> None:
        try:
            for item in items:
                places.acquire()
                if given_up.is_set():
                    return
                started.put((item, start(item)))
            started.put(None)
        except BaseException as error:
            started.put(error)

    taking = threading.Thread(target=take, daemon=True)
    taking.start()
    try:
        while (following := started.get()) is not None:
            if isinstance(following, BaseException):
                raise following
            item, future = following
            result = future.result()
            places.release()
            yield item, result
    finally:
        given_up.set()
        places.release()
        taking.join()  # until the item that it waits for is there: whoever makes the items may then end


def load_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield (item, ``function(item)``) in order, computed in threads of its own, a few items ahead."""
    with ThreadPoolExecutor(LOADERS) as pool:
        yield from ahead(lambda item: pool.submit(function, item), items, 2 * LOADERS)
