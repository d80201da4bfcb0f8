"""JSON files that detect damage: the last entry is the sha256 of the rest, compared when the file is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.tables import intact

HASH = "sha256"  # key of the hash


def sealed(content: Mapping[str, Any], sort_keys: bool = False) -> str:
    """Encode a mapping with its hash."""
    plain = json.loads(json.dumps(content, sort_keys=sort_keys))  # as it will be read: keys as text, tuples as lists
    return json.dumps({**plain, HASH: _digest(plain)}, indent=1, ensure_ascii=False) + "\n"


def unsealed(text: str | bytes) -> dict[str, Any]:
    """Decode a mapping and check its hash; a text without a hash (written elsewhere) is returned as it is.

    Raises:
        ValueError: the text is not a mapping, or its content has changed since it was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping")
    stated = content.pop(HASH, None)
    if stated is not None and stated != _digest(content):
        raise ValueError(f"its content has changed since it was written: its sha256 was {stated}")
    return content


def write_sealed(path: Path, content: Mapping[str, Any], sort_keys: bool = False) -> None:
    """Write a mapping with its hash."""
    path.write_text(sealed(content, sort_keys), encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a mapping that a stage wrote.

    Raises:
        PipelineError: the file is missing or damaged; names it.
    """
    with intact(path):
        return unsealed(path.read_text(encoding="utf-8"))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
