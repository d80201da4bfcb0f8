"""Several seeds of a run on a Ray cluster, each a task with a share of a GPU.

A task starts the process that :mod:`.seeds` would start here, and passes its messages on. A seed whose node is lost, or whose process dies,
goes on from its last checkpoint elsewhere. Requests to stop reach the tasks by a file in the run's directory, which all nodes share.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.children import exit_reason, start
from pipeline.errors import PipelineError
from pipeline.ray_cluster import connected
from pipeline.ray_nodes import Place
from pipeline.training.members import Member
from pipeline.training.seeds import PATIENCE, STOPPED, Seed, Train, serve, stop_signals

if TYPE_CHECKING:
    from ray import ObjectRefGenerator

TRIES = 3  # of a seed whose process or node is lost
ENDED = "ended"  # the last message of a task, with the exit code and the reason


def train_on_cluster(
    address: str, train: Train, run: str, seeds: Sequence[Member], directory: Path, gpu_share: int | None, threads: int
) -> None:
    """Run ``train`` for every seed on the nodes, as many at once as they have room for.

    All processes have ended when this returns or raises.

    Args:
        address: ``machine.address``.
        train: as for :func:`pipeline.training.seeds.train_side_by_side`.
        directory: of the run; a file in it tells the tasks to stop.
        gpu_share: seeds that share a GPU; None: they train on CPUs.
        threads: of a seed, on a CPU.

    Raises:
        PipelineError: the error of the first seed that failed; the others were stopped, with their checkpoints written.
        SystemExit: 143 after SIGTERM, with checkpoints written.
        KeyboardInterrupt: after Ctrl-C, with checkpoints written; a second Ctrl-C ends the tasks at once.
    """
    stop = directory / ".stop.partial"
    stop.unlink(missing_ok=True)
    with connected(address, written=directory) as cluster, stop_signals() as asked:
        import ray

        print(f"Ray: {cluster}", flush=True)
        on_gpu = gpu_share is not None and cluster.gpus > 0
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        room: dict[str, float] = {"num_gpus": 1 / (gpu_share or 1)} if on_gpu else {"num_cpus": max(1, min(threads, largest))}
        task = ray.remote(_train).options(num_returns="streaming", max_retries=0, **room)
        environment = {"OMP_NUM_THREADS": str(threads), **({} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""})}
        place = Place.here()

        def begin(seed: Member, tries: int) -> _Task:
            return _Task(task.remote(place, pickle.dumps((train, seed)), environment, stop.absolute()), run, seed, tries)

        running, failure = deque(begin(seed, 1) for seed in seeds), None
        while running and asked.count(signal.SIGINT) < 2:
            for each in _stirring(running):
                if each.listen():
                    continue
                running.remove(each)
                stopping = bool(asked) or failure is not None
                if each.outcome is None and not stopping and each.tries < TRIES:
                    print(f"{each.name}: {each.reason}; going on from its last checkpoint", file=sys.stderr, flush=True)
                    running.append(begin(each.seed, each.tries + 1))
                elif not asked:
                    failure = failure or each.failure()
            if asked or failure is not None:
                stop.touch()
                for each in running:
                    each.withdraw()
    stop.unlink(missing_ok=True)
    if failure is not None:
        raise failure
    if asked:
        raise KeyboardInterrupt if signal.SIGINT in asked else SystemExit(STOPPED)


class _Task(Seed):
    """One seed, and the task that trains it."""

    def __init__(self, messages: ObjectRefGenerator[Any], run: str, seed: Member, tries: int) -> None:
        super().__init__(run, seed)
        self.messages, self.seed, self.tries = messages, seed, tries
        self.reason, self.silent = "its node was lost", True

    def withdraw(self) -> None:
        """Give up a task that has told nothing yet: on a busy cluster it may wait for days."""
        import ray

        if self.silent:
            ray.cancel(self.messages)

    def listen(self) -> bool:
        """Handle one message of the task; False once it has ended."""
        import ray

        try:
            kind, content = ray.get(next(self.messages))
        except StopIteration:
            self.close_bar()
            return False
        except ray.exceptions.RayTaskError as error:
            self.outcome = ("problem", f"{self.name}: {error.cause}") if isinstance(error.cause, PipelineError) else ("fault", str(error))
            return True
        except ray.exceptions.RayError as error:
            self.reason = " ".join(str(error).split())[:200]
            self.close_bar()
            return False
        self.silent = False
        if kind == ENDED:
            self.reason = content
        self.hear(kind, content)
        return True

    def failure(self) -> Exception | None:
        """The error of a seed that has ended; None after success."""
        if self.outcome is None:
            return PipelineError(f"{self.name}: {self.reason}, {self.tries} times; finished seeds and the last checkpoints are kept")
        return self.error()


def _stirring(running: Sequence[_Task]) -> list[_Task]:
    """Wait a moment; return the tasks that sent a message or ended."""
    import ray

    ready, _ = ray.wait([each.messages for each in running], timeout=PATIENCE)
    return [each for each in running if each.messages in ready]


def _train(place: Place, work: bytes, environment: dict[str, str], stop: Path) -> Iterator[tuple[str, Any]]:
    """Train one seed in a child of this process, and yield what it tells; a task runs this.

    Args:
        work: the pickled function and seed; this process does not import what they need.
    """
    place.enter()
    process, connection = start(serve, stdin=subprocess.DEVNULL, env={**os.environ, **environment})
    try:
        with contextlib.suppress(EOFError, OSError):
            connection.send_bytes(work)
            while True:
                if connection.poll(PATIENCE):
                    yield connection.recv()
                if stop.exists():
                    process.terminate()
        yield ENDED, exit_reason(process)
    finally:
        connection.close()
        process.kill()
        process.wait()
