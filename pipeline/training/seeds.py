"""Several seeds of a run side by side, each in a process of its own.

The parent starts the children, draws their progress bars, passes a request to stop on to them, and tells what became of them. Imports no
torch: only the children need it.
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

from tqdm import tqdm

from pipeline.children import exit_reason, start
from pipeline.disk import disk_fault
from pipeline.errors import PipelineError

Train = Callable[[int, Callable[..., Any]], None]  # a seed, and what makes the progress bar of a training as tqdm does
STOPPED = 143  # exit code of a training that SIGTERM has stopped, its checkpoint written
PATIENCE = 0.5  # seconds between two looks at whether a stop was asked for


def train_side_by_side(train: Train, run: str, seeds: Sequence[int], at_once: int) -> None:
    """``train`` of every seed, in at most ``at_once`` processes at a time. All of them have ended when this returns or raises.

    Args:
        train: picklable, importable in a fresh interpreter. On SIGTERM it writes its checkpoint and exits with code 143.

    Raises:
        PipelineError: of the first seed that failed; the others were stopped, with their checkpoints written.
        SystemExit: 143 after SIGTERM, with checkpoints written.
        KeyboardInterrupt: after Ctrl-C, likewise; a second one ends the children at once.
    """
    waiting, running, failure = deque(seeds), list[_Child](), None
    with _stop_signals() as asked:
        try:
            while running or (waiting and not asked and failure is None):
                while waiting and len(running) < at_once and not asked and failure is None:
                    running.append(_Child(train, run, waiting.popleft()))
                for child in _stirring(running):
                    if not child.listen():
                        running.remove(child)
                        if child.process.returncode == STOPPED:
                            asked.append(signal.SIGTERM)  # someone asked one child alone: it counts for all
                        elif not asked:
                            failure = failure or child.failure(at_once)
                if asked or failure is not None:
                    for child in running:
                        child.stop(at_once=asked.count(signal.SIGINT) > 1)
        finally:
            for child in running:  # only where this very loop has failed
                child.stop(at_once=True)
                child.process.wait()
    if failure is not None:
        raise failure
    if asked:
        raise KeyboardInterrupt if signal.SIGINT in asked else SystemExit(STOPPED)


class _Child:
    """One seed, the process that trains it, and its progress bar."""

    def __init__(self, train: Train, run: str, seed: int) -> None:
        self.name = f"{run}, seed {seed}"
        self.bar: tqdm | None = None
        self.outcome: tuple[str, str] | None = None
        self.process, self.connection = start(serve, stdin=subprocess.DEVNULL)
        with contextlib.suppress(OSError):  # a child that is gone shows when it is listened to
            self.connection.send((train, seed))

    def listen(self) -> bool:
        """Take what the child has to say; False once it has ended."""
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            self.connection.close()
            self.process.wait()
            self._close_bar()
            return False
        if kind == "bar":
            self._close_bar()
            self.bar = tqdm(**content)
        elif kind == "update" and self.bar is not None:
            self.bar.update()
        elif kind == "end":
            self.outcome = content
        return True

    def stop(self, at_once: bool) -> None:
        """Ask for a checkpoint and the end, as often as it takes: a training that has just ended and the next one of the seed may both miss
        a single signal. ``at_once``: end it without a checkpoint."""
        (self.process.kill if at_once else self.process.terminate)()

    def failure(self, at_once: int) -> Exception | None:
        """What went wrong in a child that has ended; None where nothing did."""
        if self.outcome is None:
            return PipelineError(
                f"{self.name}: {exit_reason(self.process)}; finished seeds and the last checkpoints are kept. Where memory ran out, lower"
                f" machine.seeds_at_once (here {at_once}), then run again"
            )
        kind, words = self.outcome
        if kind == "done":
            return None
        return PipelineError(words) if kind == "problem" else RuntimeError(f"{self.name}, in its own process:\n{words}")

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def serve(connection: Connection) -> None:
    """What a child does: train the one seed that its pipe names."""
    try:
        train, seed = connection.recv()
        train(seed, lambda **facts: _RemoteBar(connection, facts))
        outcome = ("done", "")
    except PipelineError as error:
        outcome = ("problem", str(error))
    except Exception as error:
        sentence = disk_fault(error)
        outcome = ("problem", sentence) if sentence else ("fault", traceback.format_exc())
    with contextlib.suppress(OSError):  # the parent is gone, and this child about to be
        connection.send(("end", outcome))


class _RemoteBar:
    """A progress bar as the loop uses it, drawn by the parent: it alone writes to the terminal."""

    def __init__(self, connection: Connection, facts: dict[str, Any]) -> None:
        self.connection = connection
        self._send("bar", facts)

    def update(self) -> None:
        self._send("update", None)

    def _send(self, kind: str, content: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and this child about to be
            self.connection.send((kind, content))

    def __enter__(self) -> _RemoteBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _stirring(running: list[_Child]) -> list[_Child]:
    """Waits a moment for the children; those that have something to say, or have ended."""
    ready = wait([child.connection for child in running], PATIENCE)
    return [child for child in running if child.connection in ready]


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The requests to stop that come while the block runs: SIGTERM, and Ctrl-C where it is not ignored (a job in the background)."""
    asked: list[int] = []
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
