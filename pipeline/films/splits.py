"""Draw the splits of labelled films, each film in one, and each class in as many as its films allow."""

from __future__ import annotations

import random
from collections.abc import Mapping, Set

from pipeline.datasets.base import Split

SHARES: dict[Split, float] = {"train": 0.6, "val": 0.2, "test": 0.2}


def draw_splits(classes: Mapping[str, Set[str]], seed: int = 0) -> dict[str, Split]:
    """Draw a split for each film by iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML 2011).

    The class with the fewest films left is dealt first, each of its films to the split that wants most of the class, then most films. With
    three films or more no split is empty.

    Args:
        classes: the classes of each film.
        seed: decides ties.
    """
    draw = random.Random(seed)
    films = sorted(classes)
    draw.shuffle(films)
    names = sorted({name for of_film in classes.values() for name in of_film})
    wanted = {split: share * len(films) for split, share in SHARES.items()}
    of_class = {name: {split: share * sum(name in classes[film] for film in films) for split, share in SHARES.items()} for name in names}
    splits: dict[str, Split] = {}
    while left := [film for film in films if film not in splits]:
        counts = {name: sum(name in classes[film] for film in left) for name in names}
        rarest = min((name for name in names if counts[name]), key=lambda name: (counts[name], name), default=None)
        desire = of_class[rarest] if rarest is not None else wanted
        film = next(film for film in left if rarest is None or rarest in classes[film])
        split = max(SHARES, key=lambda split: (round(desire[split], 9), round(wanted[split], 9)))
        splits[film] = split
        wanted[split] -= 1
        for name in classes[film]:
            of_class[name][split] -= 1
    return _none_empty(splits, films)


def _none_empty(splits: dict[str, Split], films: list[str]) -> dict[str, Split]:
    """Give an empty split a film of the largest one."""
    for split in SHARES if len(films) >= len(SHARES) else ():
        if split not in splits.values():
            largest = max(SHARES, key=lambda other: list(splits.values()).count(other))
            splits[next(film for film in films if splits[film] == largest)] = split
    return splits
