"""The plan of the demo world: reproducible, balanced, one audio-visual event a clip."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import kstest, spearmanr

from pipeline.synth.plan import CATEGORIES, SECONDS, SHORTEST, SPLITS, ClipPlan, draw_clip, draw_world
from pipeline.synth.settings import SynthSettings

SETTINGS = SynthSettings()
WORLD = draw_world(SETTINGS)


def timeline(plan: ClipPlan, modality: str) -> np.ndarray:
    """(C, SECONDS) bool, painted second by second from the spans."""
    active = np.zeros((len(CATEGORIES), SECONDS), dtype=bool)
    for span in plan.of(modality):
        for second in range(span.onset, span.offset):
            assert not active[span.category, second], "two spans of one class overlap"
            active[span.category, second] = True
    return active


def test_same_settings_give_the_same_plan_and_another_seed_another() -> None:
    assert draw_world(SETTINGS) == WORLD
    other = draw_world(SynthSettings(seed=1))
    assert not {plan.id for plan in other} & {plan.id for plan in WORLD}
    assert [plan.event for plan in other] != [plan.event for plan in WORLD]


def test_a_clip_does_not_depend_on_the_others() -> None:
    assert draw_clip(SETTINGS, "val", 17) == next(plan for plan in WORLD if (plan.split, plan.index) == ("val", 17))
    larger = draw_world(SynthSettings(train_clips=241, val_clips=3, test_clips=81))
    assert larger[:240] == WORLD[:240]
    assert larger[240 + 1 + 3 : 240 + 1 + 3 + 80] == WORLD[320:]


def test_ids_are_unique_and_safe_as_file_names() -> None:
    ids = [plan.id for plan in WORLD]
    assert len(set(ids)) == len(ids) == 400
    assert all(len(name) == 11 and not name.startswith("-") and name.replace("-", "a").replace("_", "a").isalnum() for name in ids)


def test_any_setting_that_shapes_a_clip_changes_its_id() -> None:
    changed = [{"seed": 5}, {"grain": 1.0}, {"audio_rate": 22050}, {"event_level_db": (7.0, 9.0)}, {"clutter": 3}]
    ids = [draw_clip(SynthSettings(**{"train_clips": 9, **change}), "train", 0).id for change in [{}, *changed]]
    assert len(set(ids)) == len(ids)
    assert ids[0] == WORLD[0].id, "the counts shape no clip"


@pytest.mark.parametrize("split", SPLITS)
def test_main_events_are_balanced_over_the_classes(split: str) -> None:
    counts = Counter(plan.event.category for plan in WORLD if plan.split == split)
    assert set(counts.values()) == {{"train": 30, "val": 10, "test": 10}[split]}
    assert len(counts) == len(CATEGORIES)


@pytest.mark.parametrize("settings", [SETTINGS, SynthSettings(seed=3, full_length_share=0, single_share=1, distractor_share=1)])
def test_the_main_event_is_the_only_time_a_class_is_audio_visual(settings: SynthSettings) -> None:
    for plan in draw_world(settings):
        both = timeline(plan, "audio") & timeline(plan, "visual")
        expected = np.zeros_like(both)
        expected[plan.event.category, plan.event.onset : plan.event.offset] = True
        np.testing.assert_array_equal(both, expected)
        assert SHORTEST <= plan.event.offset - plan.event.onset <= SECONDS


def test_spans_of_one_class_never_touch() -> None:
    for plan in WORLD:
        for modality in ("audio", "visual"):
            spans = sorted((span.category, span.onset, span.offset) for span in plan.of(modality))
            for (category, _, offset), (next_category, onset, _) in itertools.pairwise(spans):
                assert category != next_category or offset < onset


def test_events_are_mostly_long_and_background_is_often_single_modality() -> None:
    lengths = np.array([plan.event.offset - plan.event.onset for plan in WORLD])
    assert 0.2 < (lengths == SECONDS).mean() < 0.45
    assert np.median(lengths) >= 6
    alone = 0
    for plan in WORLD:
        audio, visual = timeline(plan, "audio")[plan.event.category], timeline(plan, "visual")[plan.event.category]
        alone += int((audio ^ visual).sum())
    assert alone > 0.6 * (SECONDS - lengths).sum(), "most background seconds hold the class in one modality"


def test_a_place_is_drawn_apart_from_the_event_and_from_the_other_places() -> None:
    places = np.array([plan.place for plan in WORLD])
    assert len(np.unique(places, axis=0)) == len(WORLD)
    for colour in places.T:
        assert kstest(colour, "uniform").pvalue > 1e-3
    facts = np.array([(plan.event.category, plan.event.onset, plan.event.offset, plan.index) for plan in WORLD])
    ranks = spearmanr(places, facts).statistic
    assert np.abs(ranks[:3] - np.eye(7)[:3]).max() < 0.15  # of 400 clips: three standard deviations


def test_knobs_at_their_ends() -> None:
    plain = draw_world(SynthSettings(full_length_share=1, distractor_share=0))
    assert {(plan.event.onset, plan.event.offset, len(plan.spans)) for plan in plain} == {(0, SECONDS, 2)}
    lonely = draw_world(SynthSettings(full_length_share=0, single_share=0, distractor_share=0))
    assert {len(plan.spans) for plan in lonely} == {2}
    assert SECONDS not in {plan.event.offset - plan.event.onset for plan in lonely}
    crowded = draw_world(SynthSettings(distractor_share=1))
    share = np.mean([len({span.category for span in plan.spans}) > 1 for plan in crowded])
    assert share > np.mean([len({span.category for span in plan.spans}) > 1 for plan in WORLD])


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_clips": 0},
        {"seed": -1},
        {"single_share": 1.2},
        {"event_level_db": (3.0, 10.0)},
        {"event_level_db": (12.0, 8.0)},
        {"picture_size": 100},
        {"video_rate": 7},
        {"no_such_setting": 1},
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SynthSettings(**wrong)
