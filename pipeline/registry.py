"""Registries of classes by name, with a hint for unknown names: "unknown method 'cace'; did you mean 'cace_net'?"."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pipeline.errors import PipelineError

T = TypeVar("T")


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an "unknown name" message: the nearest known name, if any is near, and all known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(known) or 'none'})"


class UnknownName(PipelineError):
    """A name that is not registered, or not in a block of params.yaml."""


class Registry(Generic[T]):
    """The classes of one kind ("method", "encoder", ...) by the names used in params.yaml."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator, as in ``@METHODS.register("cace_net")``; a name can be used only once."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """Look up an entry by name.

        Raises:
            UnknownName: no such entry; the message has the nearest known name.
        """
        if name not in self._entries:
            raise UnknownName(f"unknown {self.kind} {name!r}{suggest(name, self._entries)}")
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted(self._entries)
