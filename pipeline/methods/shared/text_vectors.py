"""Text vectors of the classes, from a file that the settings name or, without one, at random: LEAP, UWAV's teachers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import NPZ_ERRORS

KEYS = (("names", "vectors"), ("classes", "embeddings"))  # as LEAP's table of GloVe vectors; as `python -m pipeline texts` writes
GLOVE_NAMES = {"frying food": "fry food", "baby cry infant cry": "baby cry infancy cry"}  # LLP's classes under other words in that table


def random_vectors(classes: int, width: int) -> Tensor:
    """Vectors (C, D) that are the same in every run; they say nothing of what the classes mean."""
    return torch.randn(classes, width, generator=torch.Generator().manual_seed(0))


def read_vectors(path: Path, prefix: str = "") -> tuple[list[str], Tensor]:
    """Read a table: names of the classes, vectors (C, D) float32.

    Args:
        prefix: of the setting's name, before ``texts``.

    Raises:
        ValueError: the file is not one; says why in a sentence.
    """
    where = f"{prefix}texts: {path}"
    try:
        with np.load(path, allow_pickle=False) as file:
            found = [keys for keys in KEYS if set(keys) <= set(file.files)]
            if not found:
                raise ValueError(f"it has the arrays {', '.join(file.files)}")
            names, vectors = file[found[0][0]].tolist(), np.asarray(file[found[0][1]], dtype=np.float32)
    except NPZ_ERRORS as error:
        raise ValueError(f"{where}: {error}; an .npz with names (C,) and vectors (C, D) is needed") from None
    if vectors.ndim != 2 or not isinstance(names, list) or len(names) != len(vectors):
        raise ValueError(f"{where}: {np.size(names)} names and vectors of shape {vectors.shape} do not belong together")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{where}: vectors that are not finite")
    return [str(name) for name in names], torch.from_numpy(vectors)


def table_problems(path: Path, width: int, classes: Sequence[str], prefix: str = "") -> list[str]:
    """List what is wrong with a table: no table, another width, other classes, or another order of them."""
    where = f"{prefix}texts: {path}"
    try:
        names, vectors = read_vectors(path, prefix)
    except ValueError as error:
        return [str(error)]
    problems = []
    if vectors.shape[1] != width:
        problems.append(f"{where}: vectors of width {vectors.shape[1]}; set {prefix}text_width: {vectors.shape[1]} (here {width})")
    theirs, ours = [plain(name) for name in names], [plain(name) for name in classes]
    if missing := [name for name, key in zip(classes, ours, strict=True) if key not in theirs]:
        problems.append(f"{where}: no vector for {len(missing)} of {len(classes)} classes, the first {missing[0]!r}")
    elif len(theirs) != len(ours):
        problems.append(f"{where}: {len(theirs)} names, but the data set has {len(ours)} classes")
    elif theirs != ours:
        place = next(place for place, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        there, here = names[place], classes[place]
        problems.append(f"{where}: another order of the classes: number {place + 1} is {there!r} there and {here!r} in the data set")
    return problems


def plain(name: str) -> str:
    """A class's name in small letters, words apart by spaces, in the words of the GloVe table."""
    words = " ".join(re.findall(r"[^\W_]+", name.lower()))
    return GLOVE_NAMES.get(words, words)
