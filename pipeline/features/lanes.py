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
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch

LOADERS = 2  # threads of :func:`load_ahead`
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Throughput:
    """Time spent by an extraction; ``loading`` and ``encoding`` are busy seconds, summed over threads."""

    clips: int
    seconds: float
    loading: float
    encoding: float
    loaders: int
    encoders: int

    def __str__(self) -> str:
        """Summarize in one line.

        E.g. "24 clips in 8.1 s, 2.96 clips/s; loading busy 21 % of 2 threads, encoding 78 % of 2: encode-bound".
        """
        seconds = max(self.seconds, 1e-9)
        loading, encoding = self.loading / (self.loaders * seconds), self.encoding / (self.encoders * seconds)
        shares = f"loading busy {100 * loading:.0f} % of {self.loaders} threads, encoding {100 * encoding:.0f} % of {self.encoders}"
        bound = "input" if loading > encoding else "encode"
        return f"{self.clips} clips in {self.seconds:.1f} s, {self.clips / seconds:.2f} clips/s; {shares}: {bound}-bound"


class Lanes:
    """The threads of one extraction; a context manager.

    On a CPU, loading and encoding share ``workers`` threads, each computing on one core: a network that ran on all cores would wait at
    every layer for the core that a loader holds. A GPU gets one more thread, for encoding alone.
    """

    def __init__(self, device: torch.device, workers: int) -> None:
        self.workers = workers
        self.encoders = workers if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(workers)
        self._encoding = self._pool if device.type == "cpu" else ThreadPoolExecutor(1)
        self._busy = {"loading": 0.0, "encoding": 0.0}
        self._lock = threading.Lock()

    def __enter__(self) -> Lanes:
        self._threads_of_torch = torch.get_num_threads()
        torch.set_num_threads(1)  # inherited by the threads started from here on
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._encoding):
            pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self._threads_of_torch)

    def load(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        return self._pool.submit(self._timed, "loading", function, *arguments)

    def encode(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        return self._encoding.submit(self._timed, "encoding", function, *arguments)

    def throughput(self, clips: int) -> Throughput:
        seconds = time.monotonic() - self._started
        return Throughput(clips, seconds, self._busy["loading"], self._busy["encoding"], self.workers, self.encoders)

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


def load_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield (item, ``function(item)``) in order, computed in threads of its own, a few items ahead."""
    with ThreadPoolExecutor(LOADERS) as pool:
        yield from ahead(lambda item: pool.submit(function, item), items, 2 * LOADERS)
