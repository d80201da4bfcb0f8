"""Text tables: embeddings of a prompt for each class, so that labelling needs no text network.

An .npz of ``embeddings`` (C, D) float32, ``classes`` and ``prompts`` (C,) text, ``scale`` of the logits, ``model`` and ``weights`` (name
and sha256 of the file) of the text network. Shape letters: C classes, D width of the joint space.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.base import count_lines
from pipeline.errors import NPZ_ERRORS
from pipeline.publish import replacing

LARGEST_TABLE = 2**28  # bytes of an unpacked file; a thousand classes of width 4,096 take 16 million


@dataclass(frozen=True)
class TextTable:
    """The text embeddings of C classes.

    embeddings: (C, D), float32, of length 1. scale: factor of the cosine in a logit.
    """

    embeddings: NDArray[np.float32]
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    scale: float
    model: str
    weights: str


def write_texts(path: Path, table: TextTable) -> None:
    """Write a text table; an existing file is replaced whole."""
    named = {"classes": np.array(table.classes), "prompts": np.array(table.prompts)}
    facts = {"scale": np.float64(table.scale), "model": np.array(table.model), "weights": np.array(table.weights)}
    with replacing(path) as partial, open(partial, "wb") as stream:
        np.savez(stream, embeddings=table.embeddings, **named, **facts)  # type: ignore[arg-type]


def read_texts(path: Path) -> TextTable:
    """Read a text table, its embeddings scaled to length 1.

    Raises:
        ValueError: the file is not one; says why in a sentence.
    """
    advice = "`python -m pipeline texts` writes such a table"
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(part.file_size for part in packed.infolist()) > LARGEST_TABLE:
                raise ValueError(f"it unpacks to more than {LARGEST_TABLE} bytes")
        with np.load(path, allow_pickle=False) as file:
            embeddings = np.asarray(file["embeddings"], dtype=np.float32)
            classes, prompts = (tuple(map(str, file[name].tolist())) for name in ("classes", "prompts"))
            scale, model, weights = float(file["scale"]), str(file["model"]), str(file["weights"])
    except NPZ_ERRORS as error:
        raise ValueError(f"{path} is not a text table ({error}); {advice}") from None
    if embeddings.ndim != 2 or not len(classes) == len(prompts) == len(embeddings):
        counts = f"embeddings {embeddings.shape}, {len(classes)} classes and {len(prompts)} prompts"
        raise ValueError(f"{path}: {counts} do not belong together; {advice}")
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(embeddings).all() and (lengths > 0).all() and np.isfinite(scale) and scale > 0):
        raise ValueError(f"{path}: embeddings or scale are not finite, or zero; {advice}")
    return TextTable(embeddings / lengths, classes, prompts, scale, model, weights)


def class_problems(names: Sequence[str], classes: Sequence[str], what: str) -> list[str]:
    """List what ``names`` lacks of the classes, names that are no class, and another order."""
    problems = count_lines(f"{what}: no entry for the classes", [label for label in classes if label not in names])
    problems += count_lines(f"{what}: entries that are no class of the data set", [name for name in names if name not in classes])
    problems += count_lines(f"{what}: classes that are named twice", sorted({name for name in names if list(names).count(name) > 1}))
    if not problems and list(names) != list(classes):
        place = next(place for place, (name, label) in enumerate(zip(names, classes, strict=True)) if name != label)
        here, there = classes[place], names[place]
        problems.append(f"{what}: another order of the classes: number {place + 1} is {there!r} there and {here!r} in the data")
    return problems
