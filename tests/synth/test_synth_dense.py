"""The dense demo world: untrimmed clips with several events, in UnAV-100's format."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.datasets import DatasetSettings, build_index
from pipeline.synth.annotations import write_dense_annotations
from pipeline.synth.dense import GAP, LONGEST_CLIP, SHORTEST_CLIP, draw_dense_clip, draw_dense_world
from pipeline.synth.plan import CATEGORIES, ClipPlan, Span
from pipeline.synth.scenes import render_scene
from pipeline.synth.settings import SynthSettings
from pipeline.synth.soundtrack import loudest, render_soundtrack
from pipeline.synth.world import write_world

SETTINGS = SynthSettings(kind="dense", full_length_share=0.33, single_share=0.5, picture_size=64, video_rate=4)


@cache
def world() -> list[ClipPlan]:
    return draw_dense_world(SETTINGS)


def tenths(plan: ClipPlan, spans: tuple[Span, ...] | list[Span]) -> np.ndarray:
    """(C, tenths of a second): how many of the spans hold each, counted tenth by tenth."""
    table = np.zeros((len(CATEGORIES), plan.seconds * 10), dtype=int)
    for span in spans:
        for moment in range(round(span.onset * 10), round(span.offset * 10)):
            table[span.category, moment] += 1
    return table


def test_events_are_where_a_class_is_audible_and_visible_and_nowhere_else() -> None:
    for plan in world():
        both = tenths(plan, plan.of("audio")) & tenths(plan, plan.of("visual"))
        np.testing.assert_array_equal(both, tenths(plan, plan.events))
        assert both.max() == 1
        for one, other in itertools.pairwise(sorted(plan.events, key=lambda span: (span.category, span.onset))):
            assert one.category != other.category or round(10 * (other.onset - one.offset)) >= GAP


def test_the_world_is_as_dense_as_unav_100() -> None:
    plans = draw_dense_world(SETTINGS.model_copy(update={"train_clips": 350}))
    events = [(plan, span) for plan in plans for span in plan.events]
    lengths = np.array([round(span.offset - span.onset, 1) for _, span in events])
    assert lengths.min() >= 1
    assert 4 < np.median(lengths) < 8
    assert 0.1 < np.mean([span.offset - span.onset == plan.seconds for plan, span in events]) < 0.18
    assert np.mean([round(span.onset * 10) % 10 != 0 for _, span in events]) > 0.6
    covered = [tenths(plan, plan.events).sum(axis=0) for plan in plans]
    assert 0.28 < np.mean([row.min() > 0 for row in covered]) < 0.4
    assert 0.2 < np.mean([row.max() > 1 for row in covered]) < 0.36
    assert 0.15 < np.mean([(row == 0).mean() for row in covered]) < 0.36
    assert {plan.seconds for plan in plans} == set(range(SHORTEST_CLIP, LONGEST_CLIP + 1))
    for modality in ("audio", "visual"):  # a third of the clips and more have a class in one modality alone
        alone = [(tenths(plan, plan.of(modality)) > tenths(plan, plan.events)).any() for plan in plans]
        assert np.mean(alone) > 0.3


def test_a_dense_clip_has_an_id_of_its_own_and_does_not_depend_on_the_others() -> None:
    assert draw_dense_clip(SETTINGS, "val", 7) == next(plan for plan in world() if (plan.split, plan.index) == ("val", 7))
    single = SETTINGS.model_copy(update={"kind": "single"})
    assert draw_dense_clip(single, "val", 7).id != draw_dense_clip(SETTINGS, "val", 7).id
    assert len({plan.id for plan in world()}) == len(world())


def test_the_annotations_are_read_as_unav_100s(tmp_path: Path) -> None:
    write_dense_annotations(tmp_path, world())
    (tmp_path / "clips").mkdir()
    settings = DatasetSettings(kind="unav100", clips=tmp_path / "clips", annotations=tmp_path, segments=120, segment_seconds=0.5)
    index = build_index(settings)
    assert index.classes == list(CATEGORIES)
    for row, plan in zip(index.rows, world(), strict=True):
        assert (row.clip, row.split, row.seconds) == (plan.id, plan.split, plan.seconds)
        assert {(e.label, e.onset, e.offset) for e in row.events} == {(CATEGORIES[s.category], s.onset, s.offset) for s in plan.events}


def test_picture_and_sound_show_a_class_in_its_spans_alone() -> None:
    plan = next(plan for plan in world() if plan.seconds < 20 and len(plan.of("visual")) > 2)
    quiet = SETTINGS.model_copy(update={"grain": 0.0})
    shown = np.abs(render_scene(plan, quiet).astype(int) - render_scene(plan, quiet, without_objects=True)).max(axis=(1, 2, 3)) > 25
    visible = tenths(plan, plan.of("visual")).any(axis=0)
    middles = ((np.arange(plan.seconds * 4) + 0.5) / 4 * 10).astype(int)
    assert len(shown) == len(middles)
    np.testing.assert_array_equal(shown, visible[middles])
    for category, voice in render_soundtrack(plan, SETTINGS).voices.items():
        audible = np.repeat(tenths(plan, plan.of("audio"))[category] > 0, 1600)
        assert len(voice) == plan.seconds * 16_000 == len(audible)
        assert not voice[~audible].any()
        whole = tenths(plan, plan.of("audio"))[category].reshape(-1, 10).all(axis=1)
        assert (loudest(voice, 16_000)[whole] > 0).all()


def test_a_dense_world_is_written_as_files_of_their_own_lengths(tmp_path: Path) -> None:
    few = SETTINGS.model_copy(update={"train_clips": 2, "val_clips": 1, "test_clips": 1})
    write_world(tmp_path, few, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "spans.csv", "unav100_annotations.json"]
    for plan in draw_dense_world(few):
        with av.open(str(tmp_path / "clips" / f"{plan.id}.mp4")) as container:
            assert container.streams.video[0].frames == plan.seconds * 4
            assert float(container.duration / av.time_base) == pytest.approx(plan.seconds, abs=0.1)
