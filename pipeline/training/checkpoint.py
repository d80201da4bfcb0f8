"""What every resumable loop shares: a checkpoint written whole with the random state in it, and SIGTERM as a request to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (states of modules and optimizers, plain data) and torch's random state; a reader sees all of it or the old one."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    partial = path.with_suffix(".partial")
    torch.save({**content, "random": torch.get_rng_state(), "random_cuda": cuda}, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint, with the random state put back as it was; None where there is no file."""
    if not path.is_file():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    torch.set_rng_state(content.pop("random"))
    cuda = content.pop("random_cuda")
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
    return content


class StopRequest:
    """Set once SIGTERM (a scheduler, a closing session) has come; the loop finishes its step, writes a checkpoint and exits 143."""

    def __init__(self) -> None:
        self.received = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take SIGTERM over for the length of the block."""

        def note(*_: Any) -> None:
            self.received = True

        previous = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
