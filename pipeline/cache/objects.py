"""Objects of a store at a URL, through fsspec: read whole or by their beginning, written whole, listed, removed.

An object appears whole or not at all: by a single PUT, which an S3 or Google store refuses if the object exists, and elsewhere by a write
under another name that is then moved. Whatever may pass is tried again, later each time.
"""

from __future__ import annotations

import errno
import random
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.cache.local import NAME, PARTIAL, Listed, name_of
from pipeline.cache.place import CacheError, without_secrets

TRIES = 6
FIRST_DELAY_SECONDS = 0.25  # doubled with every try
AT_ONCE = 16  # requests on their way
SINGLE_PUT = {"s3", "s3a", "gs", "gcs"}  # stores whose PUT is whole, and that can be asked to write only what is not there
LASTING = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EMSGSIZE, getattr(errno, "EREMCHG", errno.EINVAL)}  # no try would change it
REFUSED = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError, ImportError, TypeError)
RIGHTS = "check the credentials in the environment and the rights that they give there"
Result = TypeVar("Result")


class Objects:
    """The entries of a store by kind and key; safe in threads, but not across a fork."""

    def __init__(self, url: str) -> None:
        import fsspec  # here, because most caches are directories, and children import this module

        self.url, protocol = url, urlsplit(url).scheme.lower()
        self._fs, self._root = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **_options(protocol))
        if hasattr(self._fs, "retries"):
            self._fs.retries = 1  # one place to try again: here
        self._single = self._conditional = protocol in SINGLE_PUT

    def read(self, kind: str, key: str, end: int | None = None) -> bytes | None:
        """Bytes of an object, up to ``end``; None if it is absent."""
        path = self._path(kind, key)
        return self._request("read", lambda: self._fs.cat_file(path, **({} if end is None else {"start": 0, "end": end})), absent=None)

    def has(self, kind: str, key: str) -> bool:
        return self.read(kind, key, 1) is not None  # one request; to ask for facts of an object takes two if it is absent

    def write(self, kind: str, key: str, content: bytes) -> None:
        """Write an object whole; one that is there already has the same content.

        Raises:
            CacheError: the store does not take it.
        """
        path = self._path(kind, key)
        self._request("written", lambda: self._write(path, content))

    def remove(self, kind: str, key: str) -> None:
        path = self._path(kind, key)
        self._request("written", lambda: self._fs.rm_file(path), absent=None)

    def entries(self) -> Iterator[Listed]:
        """Yield all entries, in no order; their time is that of their writing, which is all that a store knows."""
        found = self._request("listed", lambda: self._fs.find(self._root, detail=True), absent={})
        if not found and self._single:
            self._request("listed", lambda: self._fs.ls(self._root.partition("/")[0]))  # a bucket that is not there has no entry either
        for path, facts in found.items():
            if match := NAME.fullmatch(path[len(self._root) :].strip("/")):
                yield Listed(match[1], match[3], int(facts["size"] or 0), _seconds(facts))

    def folder(self, kind: str, folder: str) -> set[str]:
        """Keys of the entries of a kind that begin with these two letters."""
        found = self._request("listed", lambda: self._fs.find(f"{self._root}/{kind}/{folder}"), absent=[])
        return {path.rpartition("/")[2].removesuffix(".npz") for path in found}

    def check(self) -> None:
        """Write an object and remove it again.

        Raises:
            CacheError: this store, or these rights, do not allow it.
        """
        path = f"{self._root}/.{secrets.token_hex(8)}{PARTIAL}"
        self._request("written", lambda: self._write(path, b"a check; it may be removed"))
        self._request("written", lambda: self._fs.rm_file(path), absent=None)

    def _path(self, kind: str, key: str) -> str:
        return f"{self._root}/{name_of(kind, key)}"

    def _write(self, path: str, content: bytes) -> None:
        if not self._single:
            made = f"{path.rpartition('/')[0]}/.{secrets.token_hex(8)}{PARTIAL}"
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(made, content)
            self._fs.mv(made, path)
            return
        if self._conditional:
            try:
                self._fs.pipe_file(path, content, mode="create")
                return
            except FileExistsError:
                return
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EINVAL):
                    raise
                if self._fs.exists(path):
                    return
                self._conditional = False  # a store in the manner of S3 that takes no condition
        self._fs.pipe_file(path, content)

    def _request(self, done: str, request: Callable[[], Result], **otherwise: Any) -> Any:
        """Send a request, again if that may help.

        Args:
            absent: what to return if there is no such object; without it that is an error.

        Raises:
            CacheError: the store does not answer, or refuses.
        """
        for tried in range(1, TRIES + 1):
            try:
                return request()
            except FileNotFoundError as error:
                if "absent" in otherwise:
                    return otherwise["absent"]
                raise CacheError(
                    f"the cache {self.url} cannot be {done}: there is no such bucket or folder; make it, or correct cache.dir"
                ) from error
            except REFUSED as error:
                raise CacheError(f"the cache {self.url} cannot be {done}: {_words(error)}; {RIGHTS}") from error
            except Exception as error:  # each store has errors of its own
                if getattr(error, "errno", None) in LASTING or "Credentials" in type(error).__name__:
                    raise CacheError(f"the cache {self.url} cannot be {done}: {_words(error)}; {RIGHTS}") from error
                if tried == TRIES:
                    raise CacheError(
                        f"the cache {self.url} cannot be {done}: {TRIES} tries failed, the last with: {_words(error)};"
                        " finished clips are kept, run again when the store answers"
                    ) from error
                time.sleep(FIRST_DELAY_SECONDS * 2 ** (tried - 1) * random.uniform(0.75, 1.25))
        raise AssertionError


def _options(protocol: str) -> dict[str, Any]:
    """Options of the connection."""
    if protocol not in ("s3", "s3a"):
        return {}
    return {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 10, "max_pool_connections": AT_ONCE}}


def _seconds(facts: dict[str, Any]) -> float:
    """The time of an object's writing, in seconds since 1970, however a store gives it; else now."""
    moment: Any = next((facts[field] for field in ("LastModified", "mtime", "updated", "modified") if facts.get(field)), time.time())
    if isinstance(moment, str):
        from datetime import datetime

        moment = datetime.fromisoformat(moment)
    return float(moment.timestamp() if hasattr(moment, "timestamp") else moment)


def _words(error: BaseException) -> str:
    return without_secrets(" ".join(str(error).split()) or type(error).__name__)[:300]
