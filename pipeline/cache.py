"""The per-clip cache: content-addressed entries that outlive DVC's outs, so that no finished clip is ever computed twice.

An entry is one uncompressed ``.npz``: named arrays plus a small JSON document. It is written under a temporary name and renamed, so a
reader sees all of it or nothing; ``.npz`` carries a CRC per array, so a torn or rotten entry reads as absent and is made again.
The cache lives at one absolute path outside the project: ``cache.dir`` in params.yaml, else $AVEL_CACHE, else ~/.cache/avel-pipeline.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.disk import name_place

CACHE_VARIABLE = "AVEL_CACHE"


def default_root() -> Path:
    """Where the cache is unless params.yaml says otherwise."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/avel-pipeline").expanduser().absolute()


def fingerprint(*parts: Any) -> str:
    """sha256 (hex) of JSON-serialisable parts; the same for equal content whatever the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Cache:
    """Entries by kind ("decoded", "features") and key (hex)."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root).expanduser().absolute() if root else default_root()

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / f"{key}.npz"

    def put(self, kind: str, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        """Write one entry whole. Two writers of one key write the same content: the later rename wins, harmlessly."""
        path = self.path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{key}.{os.getpid()}.partial")
        try:
            with open(partial, "wb") as stream:
                np.savez(stream, allow_pickle=False, facts=np.array(json.dumps(dict(facts or {}), sort_keys=True)), **arrays)
            os.replace(partial, path)
        except OSError as error:
            name_place(error, path)
            raise
        finally:
            partial.unlink(missing_ok=True)

    def get(self, kind: str, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """(arrays, facts) of an entry; None where there is none, or where its bytes are damaged (the entry is then removed)."""
        path = self.path(kind, key)
        try:
            with np.load(path, allow_pickle=False) as entry:
                arrays = {name: entry[name] for name in entry.files}
            return arrays, json.loads(str(arrays.pop("facts")))
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError):
            path.unlink(missing_ok=True)
            return None

    def facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """Only the JSON document of an entry, without reading its arrays."""
        try:
            with np.load(self.path(kind, key), allow_pickle=False) as entry:
                return json.loads(str(entry["facts"]))
        except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError):
            return None

    def has(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_file()
