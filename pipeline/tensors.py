"""Tensors on disk with a hash of what they hold: a safetensors file that was damaged since it was written is never loaded as it is.

The hash is of names, types, shapes and bytes, and lies in the file's own metadata, so that file and hash cannot be parted.
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

RECORD, HASH = "record", "sha256"  # the one key of the metadata, whose order safetensors does not keep; the hash's key in that JSON


class Damaged(PipelineError):
    """A file that does not hold what was written to it."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Write tensors and ``facts`` with their hash; a reader sees all of it or what was there before."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = dict(facts or {})
    with replacing(path) as partial:
        save_file(whole, partial, {RECORD: json.dumps({**facts, HASH: _digest(whole, facts)}, sort_keys=True)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, facts) of a safetensors file; of one without a hash, which others wrote, as they are.

    Raises:
        Damaged: the file cannot be read, or is not what was written; names it.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            facts = json.loads(metadata[RECORD]) if RECORD in metadata else metadata
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    stated = facts.pop(HASH, None)
    if stated is not None and _digest(tensors, facts) != stated:
        raise Damaged(f"{path} is damaged: what it holds is not what was written (its sha256 was {stated})")
    return tensors, facts


def load_or_discard(path: Path, instead: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """:func:`load_tensors` of what can be made again: None where there is no file, or a damaged one, which is removed with a sentence.

    Args:
        instead: what happens then, for the sentence.
    """
    if not path.is_file():
        return None
    try:
        return load_tensors(path)
    except Damaged as error:
        discard(path, str(error), instead)
        return None


def discard(path: Path, why: str, instead: str) -> None:
    """Remove a damaged file and say so on stderr."""
    path.unlink(missing_ok=True)
    print(f"{why}; it is removed, and {instead}", file=sys.stderr, flush=True)


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
