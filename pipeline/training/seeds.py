"""Several seeds (with folds: seeds and folds) of a run side by side, each in a process of its own.

The parent starts the children, draws their progress bars, forwards requests to stop, and reports failures. It does not import torch: only
the children need it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.children import exit_reason, start
from pipeline.disk import disk_fault
from pipeline.errors import PipelineError
from pipeline.training.members import Member
from pipeline.training.progress import Bar

Train = Callable[[Member, Callable[..., Any]], None]  # (seed, factory of the progress bar, called like Bar)
STOPPED = 143  # exit code of a training stopped by SIGTERM, with its checkpoint written
PATIENCE = 0.5  # seconds between two checks for a request to stop


def train_side_by_side(train: Train, run: str, seeds: Sequence[Member], at_once: int) -> None:
    """Run ``train`` for every seed, in at most ``at_once`` processes at a time.

    All processes have ended when this returns or raises.

    Args:
        train: picklable, importable in a fresh interpreter. On SIGTERM it writes its checkpoint and exits with code 143.

    Raises:
        PipelineError: the error of the first seed that failed; the others were stopped, with their checkpoints written.
        SystemExit: 143 after SIGTERM, with checkpoints written.
        KeyboardInterrupt: after Ctrl-C, with checkpoints written; a second Ctrl-C kills the children at once.
    """
    waiting, running, failure = deque(seeds), list[_Child](), None
    with stop_signals() as asked:
        try:
            while running or (waiting and not asked and failure is None):
                while waiting and len(running) < at_once and not asked and failure is None:
                    running.append(_Child(train, run, waiting.popleft()))
                for child in _stirring(running):
                    if not child.listen():
                        running.remove(child)
                        if child.process.returncode == STOPPED:
                            asked.append(signal.SIGTERM)  # a child that got SIGTERM itself stops them all
                        elif not asked:
                            failure = failure or child.failure(at_once)
                if asked or failure is not None:
                    for child in running:
                        child.stop(at_once=asked.count(signal.SIGINT) > 1)
        finally:
            for child in running:  # not empty only if the loop above raised
                child.stop(at_once=True)
                child.process.wait()
    if failure is not None:
        raise failure
    if asked:
        raise KeyboardInterrupt if signal.SIGINT in asked else SystemExit(STOPPED)


class Seed:
    """One seed as its process tells of it: a progress bar, and the outcome once there is one."""

    def __init__(self, run: str, seed: Member) -> None:
        self.name = f"{run}, {seed}"
        self.bar: Bar | None = None
        self.outcome: tuple[str, str] | None = None

    def hear(self, kind: str, content: Any) -> None:
        """Handle one message."""
        if kind == "bar":
            self.close_bar()
            self.bar = Bar(**content)
        elif kind in ("epoch", "say") and self.bar is not None:
            getattr(self.bar, kind)(*content)
        elif kind == "end":
            self.outcome = content

    def close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def error(self) -> Exception | None:
        """The error that its process told of; None after success."""
        kind, words = self.outcome or ("done", "")
        if kind == "done":
            return None
        return PipelineError(words) if kind == "problem" else RuntimeError(f"{self.name}, in its own process:\n{words}")


class _Child(Seed):
    """One seed, and the process that trains it on this machine."""

    def __init__(self, train: Train, run: str, seed: Member) -> None:
        super().__init__(run, seed)
        self.process, self.connection = start(serve, stdin=subprocess.DEVNULL)
        with contextlib.suppress(OSError):  # ``listen`` will notice that the child is gone
            self.connection.send((train, seed))

    def listen(self) -> bool:
        """Handle one message of the child; False once it has ended."""
        try:
            self.hear(*self.connection.recv())
        except (EOFError, OSError):
            self.connection.close()
            self.process.wait()
            self.close_bar()
            return False
        return True

    def stop(self, at_once: bool) -> None:
        """Ask the child to write a checkpoint and exit, or with ``at_once`` kill it without a checkpoint.

        To be called until the child ends: it may miss a signal between two trainings of its seed.
        """
        (self.process.kill if at_once else self.process.terminate)()

    def failure(self, at_once: int) -> Exception | None:
        """The error of a child that has ended; None after success."""
        if self.outcome is None:
            return PipelineError(
                f"{self.name}: {exit_reason(self.process)}; finished seeds and the last checkpoints are kept. If memory ran out, lower"
                f" machine.seeds_at_once (here {at_once}) or train.resident_gb, then run again"
            )
        return self.error()


def serve(connection: Connection) -> None:
    """Run in a child: train the seed received from the pipe."""
    try:
        train, seed = connection.recv()
        train(seed, lambda **facts: _RemoteBar(connection, facts))
        outcome = ("done", "")
    except PipelineError as error:
        outcome = ("problem", str(error))
    except Exception as error:
        sentence = disk_fault(error)
        outcome = ("problem", sentence) if sentence else ("fault", traceback.format_exc())
    with contextlib.suppress(OSError):  # the parent is gone, and will end this child
        connection.send(("end", outcome))


class _RemoteBar:
    """A :class:`Bar` that the parent draws: only it writes to the terminal."""

    def __init__(self, connection: Connection, facts: dict[str, Any]) -> None:
        self.connection = connection
        self._send("bar", facts)

    def epoch(self, shown: str, line: str) -> None:
        self._send("epoch", (shown, line))

    def say(self, line: str) -> None:
        self._send("say", (line,))

    def _send(self, kind: str, content: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and will end this child
            self.connection.send((kind, content))

    def __enter__(self) -> _RemoteBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _stirring(running: list[_Child]) -> list[_Child]:
    """Wait a moment; return the children that sent a message or ended."""
    ready = wait([child.connection for child in running], PATIENCE)
    return [child for child in running if child.connection in ready]


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect requests to stop while the block runs: SIGTERM and Ctrl-C, unless ignored (as in a background job)."""
    asked: list[int] = []
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
