"""JSON on disk whose damage is found: a mapping with the sha256 of the rest as its last entry, compared when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.tables import intact

HASH = "sha256"  # its key


def sealed(content: Mapping[str, Any], sort_keys: bool = False) -> str:
    """The text of a mapping with its hash."""
    plain = json.loads(json.dumps(content, sort_keys=sort_keys))  # as it is read: keys are texts, tuples lists
    return json.dumps({**plain, HASH: _digest(plain)}, indent=1, ensure_ascii=False) + "\n"


def unsealed(text: str | bytes) -> dict[str, Any]:
    """The mapping of a text, without its hash; of one that has none (others and earlier versions wrote it) as it is.

    Raises:
        ValueError: it is no mapping, or not the one that was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it holds no mapping")
    stated = content.pop(HASH, None)
    if stated is not None and stated != _digest(content):
        raise ValueError(f"what it holds is not what was written: its sha256 was {stated}")
    return content


def write_sealed(path: Path, content: Mapping[str, Any], sort_keys: bool = False) -> None:
    """Write a mapping with its hash."""
    path.write_text(sealed(content, sort_keys), encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """A mapping that a stage wrote.

    Raises:
        PipelineError: the file is gone or damaged; names it.
    """
    with intact(path):
        return unsealed(path.read_text(encoding="utf-8"))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
