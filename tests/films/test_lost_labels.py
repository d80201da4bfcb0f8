import pytest

from pipeline.datasets.base import Event
from pipeline.films.fit import Fit
from pipeline.films.lost import lost_lines
from pipeline.media.windowing import Windowing
from tests.wording import each_says

EVENTS = {
    "a": [Event("av", "Dog", 0.0, 3.0), Event("av", "Cat", 1.6, 4.0), Event("av", "Dog", 2.0, 2.4), Event("av", "Owl", 6.6, 7.4)],
    "b": [Event("av", "Cat", 0.0, 4.0), Event("av", "Cat", 2.0, 4.0), Event("av", "Owl", 4.0, 8.0)],
    "unread": [Event("av", "Dog", 0.0, 3.0), Event("av", "Cat", 0.0, 3.0)],
}


@pytest.mark.parametrize("windows", ["all", "first"])
def test_labels_that_training_would_not_see_are_counted_and_named(windows):
    """Windows of four segments of 1 s: of a, second 2 is Dog's, which comes first, so Cat loses it; Owl covers 0.4 s of two segments."""
    lost = lost_lines(EVENTS, {"a": 8.0, "b": 8.0}, Fit(Windowing(4, 1.0), windows, 2, 2, 24), {"sounds", "notes"})
    short = ["a 2-2.4 s Dog", "a 6.6-7.4 s Owl", *["b 4-8 s Owl"] * (windows == "first")]
    expected = [
        (": 1 (a 1.6-4 s Cat)",), (f": {len(short)} ({', '.join(short)})",),
        ("--tier", "notes, sounds", ": 1 (a from 0 s: Cat and Dog)"),
    ]  # fmt: skip
    assert each_says(lost, expected)


def test_events_apart_are_nothing_to_tell():
    assert lost_lines({"b": EVENTS["b"]}, {"b": 8.0}, Fit(Windowing(4, 1.0), "all", 2, 2, 24), {"sounds"}) == []
