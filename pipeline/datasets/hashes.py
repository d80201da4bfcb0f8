"""Hash the files of a data set, and remember the hashes of unchanged ones: an archive is read once.

A remembered hash counts for a file of the same path, device, inode, size, and times of last change. The last one, of the inode, no program
can set back. A file that had changed less than two seconds before it was hashed is hashed again next time, because a change within one
tick of the file system's clock shows in none of these.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.cache import Cache, file_sha256, fingerprint

KIND = "hashes"  # of the cache's entries: one for each directory of clips and machine
UNSIGNED = 2**64  # times before 1970 are negative
SETTLED = 2 * 10**9  # nanoseconds
Facts = tuple[int, int, int, int, int]  # device, inode, size, nanoseconds of the last change of content, and of the inode


class Content(NamedTuple):
    """Size in bytes and sha256 (hex) of a file; None for one that cannot be read."""

    size: int | None
    sha256: str | None


def hash_files(files: Sequence[str], cache: Cache | None = None, directory: Path | None = None) -> dict[str, Content]:
    """Hash files, in threads: hashing releases the interpreter's lock.

    Args:
        files: their paths, each once.
        cache: remembers the hashes; None hashes every file.
        directory: of the files; other directories' hashes are remembered apart.

    Raises:
        CacheError: the cache cannot be read or written.
    """
    key = hashes_key(directory or Path())
    known = _read(cache, key) if cache and files else {}
    facts = {file: _facts(file) for file in files}
    contents = {file: Content(None, None) for file in files}
    contents |= {file: Content(found[2], known[file][1]) for file, found in facts.items() if found and known.get(file, ())[:1] == (found,)}
    unknown = [file for file, found in facts.items() if found and contents[file].sha256 is None]
    started = time.time_ns()
    with ThreadPoolExecutor() as pool:
        for file, digest in zip(unknown, pool.map(_readable_sha256, unknown), strict=True):
            found = _facts(file)
            contents[file] = Content(found[2] if found and digest else None, digest)
            if found is None or found != facts[file] or started - found[4] < SETTLED:
                facts[file] = None  # not to be remembered
    if cache and unknown:
        settled = {file: (found, digest) for file, found in facts.items() if found and (digest := contents[file].sha256)}
        if settled != known:
            _write(cache, key, settled)
    return contents


def hashes_key(directory: Path) -> str:
    """The cache key of the hashes that this machine remembers of a directory."""
    return fingerprint(platform.node(), os.path.abspath(directory))


def _facts(file: str) -> Facts | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    device, inode, size, written, changed = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return device % UNSIGNED, inode % UNSIGNED, size, written % UNSIGNED, changed


def _readable_sha256(file: str) -> str | None:
    try:
        return file_sha256(file)
    except OSError:
        return None


def _read(cache: Cache, key: str) -> dict[str, tuple[Facts, str]]:
    entry = cache.get(KIND, key)
    if entry is None:
        return {}
    names = os.fsdecode(entry[0]["files"].tobytes()).split("\0")
    digests = (digest.tobytes().hex() for digest in entry[0]["sha256"])
    facts: list[Facts] = [tuple(line) for line in entry[0]["stats"].tolist()]
    return dict(zip(names, zip(facts, digests, strict=True), strict=True))


def _write(cache: Cache, key: str, known: dict[str, tuple[Facts, str]]) -> None:
    arrays: dict[str, np.ndarray] = {
        "files": np.frombuffer(os.fsencode("\0".join(known)), np.uint8),
        "stats": np.array([facts for facts, _ in known.values()], np.uint64).reshape(-1, 5),
        "sha256": np.frombuffer(bytes.fromhex("".join(digest for _, digest in known.values())), np.uint8).reshape(-1, 32),
    }
    cache.put(KIND, key, arrays)
