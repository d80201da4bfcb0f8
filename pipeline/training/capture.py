"""CUDA graphs: record the work of a function on a GPU once, then repeat it with a single launch.

No other module captures. The rules are those of https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: the function has run a few
times before on the same stream, reads its inputs from tensors that stay where they are, and asks the device nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch


def runs_ahead(device: torch.device) -> bool:
    """Whether the host queues work on the device and goes on without its results."""
    return device.type == "cuda"


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """During the block, put the work of this thread on a stream that can be captured; the default one cannot."""
    if device.type != "cuda":
        yield
        return
    stream, before = _stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One stream per process: memory freed on it is used again by the next training."""
    return torch.cuda.Stream(device)


class Graphs:
    """The graphs of one training, which share their memory and the random numbers: they run one after another."""

    def __init__(self) -> None:
        self.graphs: list[torch.cuda.CUDAGraph] = []

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record ``work``, without running it, on the current stream; return the function that repeats it.

        Raises:
            RuntimeError: the driver or an operation cannot be captured. No tensor has changed, but the earlier graphs are gone: a failed
                capture spoils the state of the random numbers, and its copy, which replaces it, is unknown to them.
        """
        graph = torch.cuda.CUDAGraph()
        pool = self.graphs[0].pool() if self.graphs else None
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        before = generator.clone_state()
        try:
            # Thread-local: other threads may allocate pinned memory and copy the next batch meanwhile.
            with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                work()
        except RuntimeError:
            self.release()
            torch.cuda.synchronize()
            generator.graphsafe_set_state(before)
            raise
        self.graphs.append(graph)
        return graph.replay

    def release(self) -> None:
        """Free all graphs and their memory."""
        for graph in self.graphs:
            graph.reset()
        self.graphs.clear()
