import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tasks import avel
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.tracks import FoundEvent, Tracks, events, join, named, runs

CLASSES = ("Dog", "Bell")


def tracks(audio, visual, valid=None):
    """Two tracks of two classes from rows like "D.B*" (. none, D dog, B bell, * both)."""
    letters = {".": (0, 0), "D": (1, 0), "B": (0, 1), "*": (1, 1)}
    active = {name: np.array([letters[letter] for letter in row], bool) for name, row in (("audio", audio), ("visual", visual))}
    scores = {name: part * np.linspace(0.5, 1, len(part))[:, None].astype(np.float32) for name, part in active.items()}
    return Tracks(CLASSES, scores, active, np.ones(len(audio), bool) if valid is None else valid)


@given(st.lists(st.booleans(), max_size=30))
def test_runs_cover_what_is_active_and_do_not_touch(active):
    found = list(runs(np.array(active, bool)))
    assert {position for first, end in found for position in range(first, end)} == {i for i, on in enumerate(active) if on}
    assert all(first < end for first, end in found)
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(found))


def test_a_parsing_task_has_audio_events_and_visual_events():
    found = events(tracks("DD*.", ".DD."), 2.0)
    assert found == [
        FoundEvent(0.0, 6.0, "Dog", pytest.approx((0.5 + 2 / 3 + 5 / 6) / 3), "audio"),
        FoundEvent(2.0, 6.0, "Dog", pytest.approx((2 / 3 + 5 / 6) / 2), "visual"),
        FoundEvent(4.0, 6.0, "Bell", pytest.approx(5 / 6), "audio"),
    ]
    assert named(tracks("DD*.", ".DD."), 2) == "Dog (audio); Bell (audio); Dog (visual)"
    assert named(tracks("DD*.", ".DD."), 3) == ""


def test_an_event_goes_on_over_a_border_and_ends_with_the_file():
    joined = join([tracks("..D", "..."), tracks("D..", "...")])
    assert [(event.start, event.end) for event in events(joined, 1.0)] == [(2.0, 4.0)]
    assert [(event.start, event.end) for event in events(tracks("..D", "..."), 1.0, seconds=2.3)] == [(2.0, 2.3)]


def test_nothing_is_known_between():
    known = tracks("DDD", "...")
    joined = join([known, known.unknown(2), known])
    assert list(joined.valid) == [True] * 3 + [False] * 2 + [True] * 3
    assert [(event.start, event.end) for event in events(joined, 1.0)] == [(0.0, 3.0), (5.0, 8.0)]
    assert len(joined.part(slice(2, 6))) == 4
    assert list(joined.part(slice(2, 6)).active["audio"][:, 0]) == [True, False, False, True]


def scores_of(two_heads):
    torch.manual_seed(0)
    segments = torch.rand(1, 5, 4).softmax(-1)
    if not two_heads:
        return Scores(segments=segments, attention=torch.rand(1, 5, 6))
    return Scores(segments=segments, event=torch.tensor([[0.9, 0.2, 0.6, 0.5, 0.8]]), classes=torch.tensor([[0.1, 0.7, 0.2]]))


@pytest.mark.parametrize("two_heads", [True, False])
def test_avel_is_audio_visual_where_it_decides_for_a_class(two_heads):
    scores, mask = scores_of(two_heads), torch.tensor([[True, True, True, True, False]])
    found = avel.tracks(scores, mask, ["a", "b", "c"])
    assert set(found.active) == set(found.scores) == {"audio_visual"}
    decided = avel.decide(scores, mask)[0]
    assert [list(row) for row in found.active["audio_visual"]] == [[number == int(label) for number in range(3)] for label in decided]
    np.testing.assert_allclose(found.scores["audio_visual"][:4], scores.segments[0, :4, :3].numpy())
    assert not found.scores["audio_visual"][4].any()
    if two_heads:
        assert list(found.active["audio_visual"][:, 1]) == [
            True,
            False,
            True,
            False,
            False,
        ]  # strictly above one half, and not where masked


@pytest.mark.parametrize("two_heads", [True, False])
def test_the_written_table_gives_the_same_tracks_and_the_truth(two_heads):
    scores, mask = scores_of(two_heads), torch.tensor([[True, True, True, True, False]])
    truth = AvelTargets(torch.tensor([[3, 0, 0, 2, 3]]), torch.tensor([0]))
    lines = avel.table(scores, avel.decide(scores, mask), truth, mask)
    found, true = avel.table_tracks(lines, ["a", "b", "c"])
    expected = avel.tracks(scores, mask, ["a", "b", "c"])
    np.testing.assert_array_equal(found.active["audio_visual"], expected.active["audio_visual"])
    np.testing.assert_allclose(found.scores["audio_visual"], expected.scores["audio_visual"])
    assert [list(map(int, row)) for row in true["audio_visual"]] == [[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert ("attention" in lines) == (not two_heads)
