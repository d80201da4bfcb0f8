"""Checkpoints of a resumable training, with its random state; written whole, at intervals and on SIGTERM.

A checkpoint begins with the sha256 of the rest. A damaged one is discarded with a message, and the training starts again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import PipelineError
from pipeline.publish import replacing
from pipeline.tensors import discard

DIGEST_BYTES = hashlib.sha256().digest_size


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (states of modules and optimizers, plain data) and torch's random state.

    A reader sees either the whole new checkpoint or the old one.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    body = io.BytesIO()
    torch.save({**content, "random": torch.get_rng_state(), "random_cuda": cuda}, body)
    with replacing(path) as partial, open(partial, "wb") as stream:
        stream.write(hashlib.sha256(body.getbuffer()).digest())
        stream.write(body.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint's content and restore the random state; None if the file is absent or damaged (then removed).

    Raises:
        PipelineError: the file holds more than tensors and plain data; none of its code has run.
    """
    try:
        stored = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    digest, body = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        discard(path, f"{path} is damaged or was written by an earlier version", "its training starts again from the beginning")
        return None
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its digest is right, so it was written this way on purpose
        reason = " ".join(str(error).split(". ")[-1].split())
        raise PipelineError(
            f"{path} holds more than tensors and plain data and was not read; none of its code has run. This pipeline writes no such file:"
            f" find out where it comes from, remove it, then run again ({reason})"
        ) from error
    torch.set_rng_state(content.pop("random"))
    cuda = content.pop("random_cuda")
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
    return content


class Checkpoints:
    """Writes a loop's checkpoint at intervals, and when SIGTERM (a scheduler, a closing session) asks the loop to stop.

    Args:
        path: the file.
        seconds: shortest time between two checkpoints; 0: one at every :meth:`offer`.
        content: returns the content to write.
        writes: True in exactly one process.
    """

    def __init__(self, path: Path, seconds: float, content: Callable[[], dict[str, Any]], writes: bool = True) -> None:
        self.path, self.seconds, self.content, self.writes = path, seconds, content, writes
        self.stopping = False
        self.saved_at = time.monotonic()

    def offer(self) -> None:
        """Write a checkpoint if it is time; call this at points where a run can be resumed.

        Raises:
            SystemExit: 143 once SIGTERM has come, with a checkpoint written.
        """
        if self.stopping or time.monotonic() - self.saved_at >= self.seconds:
            if self.writes:
                save_checkpoint(self.path, self.content())
            self.saved_at = time.monotonic()
        if self.stopping:
            raise SystemExit(143)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle SIGTERM during the block, so that the current step ends first."""

        def note(*_: Any) -> None:
            self.stopping = True

        previous = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
