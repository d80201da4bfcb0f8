"""A GPU that never waits: rows come in and features go out on two streams while a third computes.

Everything here only queues work on the device and returns; the host waits in two places, for a pass when too many are queued
(:meth:`Card.one_pass`) and for features that are needed now (:meth:`Arriving.result`). One thread queues; any thread may pin and wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

QUEUED = 2  # passes on the device at a time: one computes, the rows of the next have arrived when it ends


class Runtime(Protocol):
    """The calls that only a device with streams has."""

    def stream(self) -> Any:
        """Make a stream: a queue of work that runs beside other streams."""
        ...

    def computing(self) -> Any:
        """Return the stream of the calling thread, on which its networks run."""
        ...

    def mark(self, stream: Any) -> Any:
        """Mark the end of the work queued on a stream; the mark is reached, and timed, when that is done."""
        ...

    def after(self, stream: Any, mark: Any) -> None:
        """Hold back what is queued on a stream from now on until the mark is reached."""
        ...

    def reach(self, mark: Any) -> None:
        """Let the calling thread wait until the mark is reached."""
        ...

    def seconds(self, first: Any, second: Any) -> float:
        """Return the device's time between two marks that are reached."""
        ...

    def pin(self, tensor: Tensor) -> Tensor:
        """Copy a tensor into memory from which the device fetches by itself."""
        ...

    def upload(self, tensor: Tensor, stream: Any, user: Any) -> Tensor:
        """Queue a copy to the device on ``stream``; its memory is reused only when ``user`` is done with it."""
        ...

    def download(self, tensor: Tensor, stream: Any) -> Tensor:
        """Queue a copy to pinned memory on ``stream``; the tensor's memory is reused only when that is done."""
        ...


class CudaRuntime:
    """CUDA's streams, events and pinned memory; see :class:`Runtime`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)

    def computing(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def mark(self, stream: torch.cuda.Stream) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # a waiting thread sleeps: the cores are for decoding
        event.record(stream)
        return event

    def after(self, stream: torch.cuda.Stream, mark: torch.cuda.Event) -> None:
        stream.wait_event(mark)  # the event may be forgotten at once: CUDA keeps it until it is reached

    def reach(self, mark: torch.cuda.Event) -> None:
        mark.synchronize()

    def seconds(self, first: torch.cuda.Event, second: torch.cuda.Event) -> float:
        return first.elapsed_time(second) / 1000

    def pin(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory()  # torch keeps freed pinned blocks for the next, until the copies from them are done

    def upload(self, tensor: Tensor, stream: torch.cuda.Stream, user: torch.cuda.Stream) -> Tensor:
        with torch.cuda.stream(stream):  # the copy's memory comes from this stream's blocks, so it need not wait for the passes
            there = tensor.to(self.device, non_blocking=True)
        there.record_stream(user)
        return there

    def download(self, tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
        here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            here.copy_(tensor, non_blocking=True)
        tensor.record_stream(stream)
        return here


class Arriving:
    """A tensor on its way from the device."""

    def __init__(self, runtime: Runtime, tensor: Tensor, mark: Any) -> None:
        self._runtime, self._tensor, self._mark = runtime, tensor, mark

    def result(self) -> Tensor:
        """Wait for the tensor; it is on the CPU."""
        self._runtime.reach(self._mark)
        return self._tensor


class Card:
    """The streams of one device, and the passes queued on it.

    Args:
        runtime: the device's calls; tests give one without a device.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._inward, self._outward = runtime.stream(), runtime.stream()
        self._queued: deque[tuple[Any, Any]] = deque()  # marks at the start and the end of each pass
        self._busy = 0.0

    def pin(self, rows: Tensor) -> Tensor:
        """Copy rows into pinned memory; called by loading threads."""
        return self.runtime.pin(rows)

    @contextmanager
    def one_pass(self, pieces: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Send the rows of a pass, and queue in the block what computes with them.

        Waits while :data:`QUEUED` passes are on the device, so memory stays bounded.

        Args:
            pieces: pinned tensors.

        Yields:
            The pieces on the device.
        """
        while len(self._queued) >= QUEUED:
            self._finish_first()
        computing = self.runtime.computing()
        sent = [self.runtime.upload(piece, self._inward, computing) for piece in pieces]
        self.runtime.after(computing, self.runtime.mark(self._inward))
        start = self.runtime.mark(computing)  # behind the copies: while these last, the card counts as idle
        yield sent
        self._queued.append((start, self.runtime.mark(computing)))

    def fetch(self, tensor: Tensor) -> Arriving:
        """Queue a copy of what the calling thread's stream computes to pinned memory; later passes do not wait for it."""
        self.runtime.after(self._outward, self.runtime.mark(self.runtime.computing()))
        here = self.runtime.download(tensor, self._outward)
        return Arriving(self.runtime, here, self.runtime.mark(self._outward))

    def finish(self) -> None:
        """Wait for every queued pass."""
        while self._queued:
            self._finish_first()

    def busy(self) -> float:
        """Seconds of the device in all passes so far, once they are done."""
        self.finish()
        return self._busy

    def _finish_first(self) -> None:
        start, end = self._queued.popleft()
        self.runtime.reach(end)
        self._busy += self.runtime.seconds(start, end)
