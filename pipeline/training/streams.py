"""Features of a split, in memory or in the store, handed out in chunks of rows.

In memory they are one tensor a stream, on the device. In the store they stay on disk: threads read the next chunks while the steps run, and
for a GPU the chunks go through pinned memory and a copy stream, behind the computation. Either way the numbers are the same.

Shape letters: N rows of a split, T segments of a clip.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.store import FeatureStore

READERS = 2  # threads that read chunks
AHEAD = 2  # chunks read before they are needed; for a GPU, one more is on its way there
LOADED_AT_ONCE = 64  # rows of a chunk while a whole split is loaded onto a GPU

Streams = dict[str, Tensor]  # features of some rows by stream, (rows, T, ...) each, in the stored dtype


@dataclass
class Chunk:
    """Row numbers on the CPU (``rows``) and on the device (``there``), and the features of these rows on the device."""

    rows: Tensor
    there: Tensor
    streams: Streams


class Features(Protocol):
    """The features of N rows."""

    def chunks(self, rows: Iterable[Tensor]) -> Iterator[Chunk]:
        """Yield the features of each chunk of row numbers (on the CPU), in order."""
        ...


@dataclass
class Resident:
    """Features in memory: by stream, (N, T, ...) on one device."""

    tensors: Mapping[str, Tensor]

    def chunks(self, rows: Iterable[Tensor]) -> Iterator[Chunk]:
        device = next(iter(self.tensors.values())).device
        for part in rows:
            there = sent(part, device)
            yield Chunk(part, there, {stream: values[there] for stream, values in self.tensors.items()})


@dataclass
class Stored:
    """Features in the store, read when they are needed.

    entries: (N,) the store's entry of each row.
    """

    store: FeatureStore
    entries: NDArray[np.int64]
    streams: Sequence[str]
    device: torch.device

    @property
    def bytes(self) -> int:
        """Room that the features take in memory."""
        numbers = sum(math.prod(self._shape(stream, len(self.entries))) for stream in self.streams)
        return numbers * np.dtype(self.store.spec["dtype"]).itemsize

    def read(self, stream: str) -> Tensor:
        """Read one stream of all rows, on the CPU."""
        return torch.from_numpy(self.store.read_entries(stream, self.entries))

    def verify(self) -> None:
        """Compare the checksums of the files that hold these features, once in the life of the store."""
        for stream in self.streams:
            self.store.verify(stream, self.entries)

    def resident(self) -> Resident:
        """Load all rows onto the device; for a GPU, the host holds no more than a few chunks of them."""
        if self.device.type == "cpu":
            return Resident({stream: self.read(stream) for stream in self.streams})
        count = len(self.entries)
        whole = {stream: values.new_empty(self._shape(stream, count), device=self.device) for stream, values in self._memory(0).items()}
        done = 0
        for chunk in self.chunks(torch.arange(count).split(LOADED_AT_ONCE)):
            for stream, values in chunk.streams.items():
                whole[stream][done : done + len(values)].copy_(values)
            done += len(chunk.rows)
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()  # the memory of the chunks, which only the stream that copies could use again
        return Resident(whole)

    def chunks(self, rows: Iterable[Tensor]) -> Iterator[Chunk]:
        self.verify()
        if self.device.type == "cpu":
            for part, values in self._read_ahead(rows, self._memory):
                yield Chunk(part, part, values)
        else:
            yield from self._copy_ahead(rows)

    def _read_ahead(self, rows: Iterable[Tensor], memory: Callable[[int], Streams]) -> Iterator[tuple[Tensor, Streams]]:
        """Read chunks in threads into what ``memory`` returns for so many rows, :data:`AHEAD` of them before they are needed."""
        waiting: deque[tuple[Tensor, Future[Streams]]] = deque()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="features")
        try:
            for part in rows:
                waiting.append((part, pool.submit(self._fill, memory(len(part)), part)))
                if len(waiting) > AHEAD:
                    first, read = waiting.popleft()
                    yield first, read.result()
            while waiting:
                first, read = waiting.popleft()
                yield first, read.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _copy_ahead(self, rows: Iterable[Tensor]) -> Iterator[Chunk]:
        """Send each chunk to the GPU while the step before it runs."""
        pinned = Pinned(lambda count: {stream: values.pin_memory() for stream, values in self._memory(count).items()})
        copying = _copy_stream(self.device)
        on_its_way: tuple[Chunk, torch.cuda.Event] | None = None
        for part, host in self._read_ahead(rows, pinned.take):
            with torch.cuda.stream(copying):
                streams = {stream: values.to(self.device, non_blocking=True) for stream, values in host.items()}
                chunk = Chunk(part, sent(part, self.device), streams)
                copied = copying.record_event()
            pinned.give_back(host, copied)
            if on_its_way is not None:
                yield _arrived(*on_its_way)
            on_its_way = chunk, copied
        if on_its_way is not None:
            yield _arrived(*on_its_way)

    def _fill(self, memory: Streams, rows: Tensor) -> Streams:
        """Read rows, in a thread. It must not call CUDA, because another thread may be capturing a graph."""
        for stream, values in memory.items():
            self.store.read_into(values.numpy(), stream, self.entries[rows.numpy()])
        return memory

    def _shape(self, stream: str, count: int) -> tuple[int, ...]:
        return (count, self.store.segments, *self.store.shapes[stream])

    def _memory(self, count: int) -> Streams:
        """Memory for some rows."""
        dtype = self.store.spec["dtype"]
        return {stream: torch.from_numpy(np.empty(self._shape(stream, count), dtype)) for stream in self.streams}


class Pinned:
    """Pinned memory for chunks, used again once a chunk has been copied.

    To pin memory takes longer than to copy it.

    Args:
        new: makes the memory of so many rows, by stream.
    """

    def __init__(self, new: Callable[[int], Streams]) -> None:
        self.new = new
        self.free: deque[tuple[Streams, torch.cuda.Event]] = deque()

    def take(self, count: int) -> Streams:
        if not self.free or any(len(values) < count for values in self.free[0][0].values()):
            return self.new(count)
        memory, copied = self.free.popleft()
        copied.synchronize()
        return {stream: values[:count] for stream, values in memory.items()}

    def give_back(self, memory: Streams, copied: torch.cuda.Event) -> None:
        self.free.append((memory, copied))


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream per process: memory that was allocated on it is used again for later chunks."""
    return torch.cuda.Stream(device)


def sent(rows: Tensor, device: torch.device) -> Tensor:
    """Row numbers on the device, without waiting for a GPU's work."""
    return rows if device.type == "cpu" else rows.pin_memory().to(device, non_blocking=True)


def _arrived(chunk: Chunk, copied: torch.cuda.Event) -> Chunk:
    """Let the GPU's current stream wait for a copy, and keep the memory until its work on it is done."""
    current = torch.cuda.current_stream(chunk.there.device)
    current.wait_event(copied)
    for values in (chunk.there, *chunk.streams.values()):
        values.record_stream(current)
    return chunk
