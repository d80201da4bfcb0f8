"""A training killed at a step, for the tests of what starts it again."""

from __future__ import annotations

import pytest

from pipeline.training import loop


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Interrupt before the ``number``-th step from here, counted from 1 over all networks and seeds; the steps after it are taken."""
    step, count = loop.Trainer._step, 0

    def counted(trainer: loop.Trainer, *arguments) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt
        step(trainer, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
