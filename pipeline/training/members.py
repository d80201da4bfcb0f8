"""The trainings of a run: one for each seed, or with folds one for each seed and fold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Member(NamedTuple):
    """One training of a run; ``fold`` is None where the data set has no folds.

    Example:
        >>> print(Member(0), Member(0, fold=2).stem, sep=", ")
        seed 0, seed-0-fold-2
    """

    seed: int
    fold: int | None = None

    def __str__(self) -> str:
        return f"seed {self.seed}" if self.fold is None else f"seed {self.seed}, fold {self.fold}"

    @property
    def stem(self) -> str:
        """Name of its files."""
        return f"seed-{self.key}"

    @property
    def key(self) -> str:
        """Its name among those of its run: the seed, with folds as ``0-fold-2``."""
        return str(self.seed) if self.fold is None else f"{self.seed}-fold-{self.fold}"

    @property
    def columns(self) -> dict[str, int]:
        """Its columns in a table of a run."""
        return {"seed": self.seed} if self.fold is None else {"seed": self.seed, "fold": self.fold}


def members_of(seeds: Iterable[int], folds: Iterable[int] | None) -> list[Member]:
    """The trainings of a run with these seeds in these folds, seed by seed; None: without folds."""
    of_folds = [None] if folds is None else [*folds]
    return [Member(seed, fold) for seed in seeds for fold in of_folds]


def trained_members(directory: Path) -> list[Member]:
    """List the finished trainings of a run by their files, in ascending order of seed and fold."""
    found = (path.stem.removeprefix("seed-").partition("-fold-") for path in directory.glob("seed-*.json"))
    return sorted((Member(int(seed), int(fold) if fold else None) for seed, _, fold in found), key=lambda m: (m.seed, m.fold or 0))
