"""Entries of a store at a URL, read through a local copy.

What this machine makes lies in an *outbox* on its disk until the store has it, so nothing finished is lost while the store fails: the next
stage that looks for an entry delivers it from there. Children that decode hostile files never speak to the store.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from pipeline.cache.entry import BEGINNING, Damaged, Entry, facts_at_the_beginning, read_entry
from pipeline.cache.local import Directory, Listed
from pipeline.cache.local_copy import LocalCopy
from pipeline.cache.objects import AT_ONCE, Objects
from pipeline.cache.place import Store
from pipeline.disk import disk_fault

MANY = 512  # keys: asking for each takes more requests than listing the 256 folders in which they may be
Result = TypeVar("Result")


class Shared:
    """The entries of a store, this machine's copy of some, and its outbox."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.copy = LocalCopy(store.local / "entries", store.local_bytes)
        self.outbox = Directory(store.local / "outbox")
        self._objects: Objects | None = None
        self._complained = False

    @property
    def objects(self) -> Objects:
        """The connection, made when it is first needed: a child that only stages entries needs none."""
        if self._objects is None:
            self._objects = Objects(self.store.url)
        return self._objects

    def deliver(self, kind: str, key: str) -> None:
        """Bring an entry from the outbox to the store; nothing if none is there."""
        path = self.outbox.path(kind, key)
        with suppress(FileNotFoundError):  # another process has delivered it
            self.objects.write(kind, key, path.read_bytes())
            try:
                self.copy.take(path, kind, key)
            except FileNotFoundError:
                raise
            except OSError as error:
                self._complain(error)
                path.unlink()

    def read(self, kind: str, key: str) -> Entry | None:
        """Read an entry from the copy, the outbox or the store; a damaged one is removed there."""
        for nearby in (self.copy, self.outbox):
            if (entry := nearby.read(kind, key)) is not None:
                return entry
        content = self.objects.read(kind, key)
        if content is None:
            return None
        try:
            entry = read_entry(lambda: io.BytesIO(content), key)
        except Damaged as damage:
            self._discard(kind, key, str(damage))
            return None
        self._keep(kind, key, content)
        return entry

    def facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read the facts of an entry; of one in the store only the beginning is brought."""
        for nearby in (self.copy, self.outbox):
            if (entry := nearby.read(kind, key, only_facts=True)) is not None:
                return entry[1]
        beginning = self.objects.read(kind, key, BEGINNING)
        facts = None if beginning is None else facts_at_the_beginning(beginning)
        if beginning is None or facts is not None:
            return facts
        whole = self.read(kind, key)  # a very long document, or damage
        return None if whole is None else whole[1]

    def has(self, kind: str, key: str) -> bool:
        return self.copy.has(kind, key) or self.outbox.has(kind, key) or self.objects.has(kind, key)

    def remove(self, kind: str, key: str) -> None:
        for nearby in (self.copy, self.outbox):
            nearby.remove(kind, key)
        self.objects.remove(kind, key)

    def entries(self) -> Iterator[Listed]:
        """Yield all entries of the store; the copy knows of later uses by this machine."""
        used = {(each.kind, each.key): each.used for each in self.copy.entries()}
        for each in self.objects.entries():
            yield each._replace(used=max(each.used, used.get((each.kind, each.key), 0.0)))

    def present(self, kind: str, keys: Iterable[str]) -> set[str]:
        """Choose the keys that have an entry, by listing folders if they are many; what is staged is delivered."""
        chosen = set(keys)
        _at_once(lambda key: self.deliver(kind, key), [key for key in chosen if self.outbox.has(kind, key)])
        near = {key for key in chosen if self.copy.has(kind, key)}
        far = sorted(chosen - near)
        if len(far) < MANY:
            return near.union(key for key, there in zip(far, _at_once(lambda key: self.objects.has(kind, key), far), strict=True) if there)
        folders = _at_once(lambda folder: self.objects.folder(kind, folder), sorted({key[:2] for key in far}))
        return near | set().union(*folders).intersection(far)

    def facts_of(self, kind: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Read the facts of those entries that are present, by key."""
        there = sorted(self.present(kind, keys))
        found = _at_once(lambda key: self.facts(kind, key), there)
        return {key: facts for key, facts in zip(there, found, strict=True) if facts is not None}

    def _keep(self, kind: str, key: str, content: bytes) -> None:
        """Add an entry to the copy, if there is room."""
        if len(content) > self.copy.most:
            return
        partial = self.copy.partial(kind, key)
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            self.copy.take(partial, kind, key)
        except OSError as error:
            self._complain(error)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _complain(self, error: OSError) -> None:
        """Say once that the copy cannot be written; the store has everything."""
        if not self._complained:
            self._complained = True
            reason = disk_fault(error, self.copy.root) or str(error)
            print(f"the local copy of {self.store} is not used: {reason}", file=sys.stderr, flush=True)

    def _discard(self, kind: str, key: str, damage: str) -> None:
        self.objects.remove(kind, key)
        name = f"{self.store}/{kind}/{key}"
        print(f"the cache entry {name} is damaged ({damage}); it is removed, and made again when needed", file=sys.stderr, flush=True)


def _at_once(function: Callable[[str], Result], names: list[str]) -> list[Result]:
    """Call a function for each name, in threads; after an error no further call begins."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(function, names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@lru_cache(maxsize=8)
def shared(store: Store, process: int) -> Shared:
    """The entries of a store, one object for each process: a connection must not be used across a fork."""
    return Shared(store)
