import random

import pytest

from pipeline.films.splits import SHARES, draw_splits


def films_of(count, seed):
    draw = random.Random(seed)
    return {f"film{n:03}": {draw.choice("ABC"), *draw.sample("DEF", draw.randint(0, 2))} for n in range(count)}


@pytest.mark.parametrize("count", [10, 12, 50, 200])
def test_splits_hold_their_share_of_films_and_of_every_class(count):
    films = films_of(count, count)
    splits = draw_splits(films)
    assert splits.keys() == films.keys()
    for split, share in SHARES.items():
        assert abs(list(splits.values()).count(split) - share * count) <= max(2, 0.05 * count)
        for name in "ABCDEF":
            of_class = [film for film in films if name in films[film]]
            assert abs(sum(splits[film] == split for film in of_class) - share * len(of_class)) < 2 + 0.05 * len(of_class), (name, split)


def test_the_seed_alone_decides():
    films = films_of(30, 1)
    assert draw_splits(films, 4) == draw_splits(dict(reversed(films.items())), 4)
    assert len({tuple(draw_splits(films, seed).items()) for seed in range(5)}) == 5


@pytest.mark.parametrize("films", [{"a": {"X"}, "b": {"X"}, "c": {"X"}}, {"a": {"X"}, "b": {"Y"}, "c": {"Z"}, "d": set()}])
def test_no_split_of_three_films_or_more_is_empty(films):
    assert set(draw_splits(films).values()) == set(SHARES)
