"""Guarded functions in forks of one process a worker, whatever directory and environment a test has: not in one for each of these."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

from pipeline.children import Nursery
from pipeline.media import guard


def serve(connection: Connection, _: object) -> None:
    """A child's work, which comes as its first message."""
    directory, environment, setting = pickle.loads(connection.recv_bytes())
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    guard.serve(connection, setting)


def limits() -> tuple[tuple[int, int], ...]:
    return tuple(map(resource.getrlimit, guard.LIMITS))


class Part:
    """What :class:`Nursery` offers, by children of ``kept``."""

    def __init__(self, kept: Nursery, environment: dict[str, str], setting: object) -> None:
        self._kept, self._work = kept, pickle.dumps((os.getcwd(), environment, setting))
        self._children: set[int] = set()

    @property
    def lives(self) -> bool:
        return self._kept.lives

    def child(self) -> tuple[int, Connection]:
        child, connection = self._kept.child()
        self._children.add(child)
        connection.send_bytes(self._work)
        return child, connection

    def end(self, child: int) -> None:
        self._children.remove(child)
        self._kept.end(child)

    def ended(self, child: int) -> str:
        self._children.remove(child)
        return self._kept.ended(child)

    def stop(self) -> None:
        for child in list(self._children):
            self.end(child)


@contextmanager
def quick_children() -> Iterator[None]:
    """Let guarded functions run so within the block, in this process and under its limits of now."""
    kept: list[Nursery] = []
    at_first, owner = limits(), os.getpid()

    def part(serve_setting: Callable[..., Any], setting: object, env: dict[str, str], **streams: Any) -> Part | Nursery:
        if limits() != at_first or os.getpid() != owner:
            return Nursery(serve_setting, setting, env=env, **streams)
        if not kept or not kept[-1].lives:
            kept.append(Nursery(serve, setting, env=env, **streams))
        return Part(kept[-1], env, setting)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "Nursery", part)
        yield
    for each in kept:
        each.stop()
