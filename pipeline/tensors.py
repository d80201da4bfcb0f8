"""Safetensors files with a hash of their content, so that a damaged file is never loaded.

The hash covers names, types, shapes and bytes. It is in the file's own metadata, so it cannot be separated from the file.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.publish import replacing

RECORD, HASH = "record", "sha256"  # the only metadata key, because safetensors does not keep their order; the hash's key in its JSON


class Damaged(PipelineError):
    """A file whose content has changed since it was written."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Write tensors and ``facts`` with their hash; a reader sees either the whole new file or the old one."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = dict(facts or {})
    with replacing(path) as partial:
        save_file(whole, partial, {RECORD: json.dumps({**facts, HASH: _digest(whole, facts)}, sort_keys=True)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read (tensors, facts) from a safetensors file; a file without a hash, written elsewhere, is not checked.

    Raises:
        Damaged: the file cannot be read, or has changed since it was written; names it.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            facts = json.loads(metadata[RECORD]) if RECORD in metadata else metadata
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  file is not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    stated = facts.pop(HASH, None)
    if stated is not None and _digest(tensors, facts) != stated:
        raise Damaged(f"{path} is damaged: its content has changed since it was written (its sha256 was {stated})")
    return tensors, facts


def load_or_discard(path: Path, instead: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Load tensors that can be made again; None if the file is missing or damaged (then removed with a message).

    Args:
        instead: end of the message, what happens after the removal.
    """
    if not path.is_file():
        return None
    try:
        return load_tensors(path)
    except Damaged as error:
        discard(path, str(error), instead)
        return None


def discard(path: Path, why: str, instead: str) -> None:
    """Remove a damaged file and print a message on stderr."""
    path.unlink(missing_ok=True)
    print(f"{why}; it is removed, and {instead}", file=sys.stderr, flush=True)


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
