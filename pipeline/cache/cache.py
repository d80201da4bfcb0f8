"""The cache as the rest of the library knows it, be it a directory or a store at a URL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.cache.entry import Entry
from pipeline.cache.local import Directory, Listed
from pipeline.cache.place import Store, place_of
from pipeline.cache.shared import Shared, shared

DELIVERIES = 8  # threads that bring entries to a store


class Cache:
    """Cache entries by kind ("decoded", "features") and key (hex).

    Args:
        root: a directory, a URL, or the place that :attr:`pipeline.cache.settings.CacheSettings.place` gives; None: the default.

    Raises:
        CacheError: the URL cannot be a cache.
    """

    def __init__(self, root: str | Path | Store | None = None) -> None:
        self.root = place_of(root)
        self._entries: Directory | Shared = Directory(self.root) if isinstance(self.root, Path) else shared(self.root, os.getpid())

    @property
    def of_machine(self) -> Cache:
        """The cache for what only this machine can use, and may replace: on its own disk."""
        return Cache(self.root.local / "machine") if isinstance(self.root, Store) else self

    @property
    def local(self) -> Directory:
        """The entries on this machine's disk: all of them, or the copy of a store."""
        return self._entries.copy if isinstance(self._entries, Shared) else self._entries

    def path(self, kind: str, key: str) -> Path:
        """File of an entry on this machine's disk: the entry, or the copy of one in a store."""
        return self.local.path(kind, key)

    def put(self, kind: str, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        """Write one entry whole; all who share the cache see it when this returns.

        Raises:
            CacheError: the entry cannot be written.
        """
        self.stage(kind, key, arrays, facts)
        self.deliver(kind, key)

    def stage(self, kind: str, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        """Write one entry whole on this machine's disk, for :meth:`deliver` to bring to the store, if there is one.

        Raises:
            CacheError: the entry cannot be written.
        """
        directory = self._entries.outbox if isinstance(self._entries, Shared) else self._entries
        directory.put(kind, key, arrays, facts)

    def deliver(self, kind: str, key: str) -> None:
        """Bring a staged entry to the store, if there is one.

        Raises:
            CacheError: the store does not take it; it stays staged, and is delivered by the next stage that needs it.
        """
        if isinstance(self._entries, Shared):
            self._entries.deliver(kind, key)

    def get(self, kind: str, key: str) -> Entry | None:
        """Read (arrays, facts) of an entry; None if it is absent or damaged (a damaged entry is removed).

        Raises:
            CacheError: the entry exists but cannot be read.
        """
        return self._entries.read(kind, key)

    def facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read only the JSON document of an entry, not its arrays.

        Raises:
            CacheError: the entry exists but cannot be read.
        """
        if isinstance(self._entries, Shared):
            return self._entries.facts(kind, key)
        entry = self._entries.read(kind, key, only_facts=True)
        return None if entry is None else entry[1]

    def has(self, kind: str, key: str) -> bool:
        return self._entries.has(kind, key)

    def facts_of(self, kind: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Read the facts of many entries by key, without absent ones; from a store, many at once."""
        if isinstance(self._entries, Shared):
            return self._entries.facts_of(kind, keys)
        return {key: facts for key in keys if (facts := self.facts(kind, key)) is not None}

    def present(self, kind: str, keys: Iterable[str]) -> set[str]:
        """Choose the keys that have an entry, asking a store for many at once."""
        if isinstance(self._entries, Shared):
            return self._entries.present(kind, keys)
        return {key for key in keys if self.has(kind, key)}

    def remove(self, kind: str, key: str) -> None:
        """Remove an entry, if it is there.

        Raises:
            CacheError: it cannot be removed.
        """
        self._entries.remove(kind, key)

    def entries(self) -> Iterator[Listed]:
        """Yield all entries, in no order.

        Raises:
            CacheError: the cache cannot be listed.
        """
        return self._entries.entries()

    def leftovers(self, older_than: float) -> Iterator[tuple[Path, int]]:
        """Yield (path, size) of what killed processes left unfinished on this machine's disk, untouched for that many seconds."""
        for place in (self._entries.copy, self._entries.outbox) if isinstance(self._entries, Shared) else (self._entries,):
            yield from place.leftovers(older_than)

    def check(self) -> None:
        """Check before long work that a store takes entries; a directory is not checked.

        Raises:
            CacheError: it does not.
        """
        if isinstance(self._entries, Shared):
            self._entries.objects.check()


class Deliveries:
    """Bring entries to a store in threads; a context manager that waits for all of them.

    The first failure is raised by the next :meth:`add`, or at the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(DELIVERIES)
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Deliveries:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._wait(0)
        except Exception:
            if error is None:  # must not hide the block's own error
                raise
        finally:
            self._pool.shutdown(cancel_futures=True)

    def add(self, cache: Cache, kind: str, key: str) -> None:
        """Deliver a staged entry, soon.

        Raises:
            CacheError: an entry could not be delivered.
        """
        if isinstance(cache.root, Store):
            self._pending.append(self._pool.submit(cache.deliver, kind, key))
            self._wait(2 * DELIVERIES)

    def _wait(self, most: int) -> None:
        """Wait until at most ``most`` are on their way."""
        while self._pending and (self._pending[0].done() or len(self._pending) > most):
            self._pending.pop(0).result()
