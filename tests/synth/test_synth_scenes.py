"""The picture: shapes, and objects that are there exactly in their seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.synth import shapes
from pipeline.synth.pictures import PICTURES, Look
from pipeline.synth.plan import CATEGORIES, SECONDS, draw_world
from pipeline.synth.scenes import render_scene
from pipeline.synth.settings import SynthSettings

SETTINGS = SynthSettings(train_clips=24, val_clips=1, test_clips=1)


def test_shapes_at_points_measured_by_hand() -> None:
    x, y = np.float32([0, 3, 0, -2]), np.float32([0, 4, 1, 0])
    np.testing.assert_allclose(shapes.disc(x, y, 2), [-2, 3, -1, 0], atol=1e-6)
    np.testing.assert_allclose(shapes.ring(x, y, 2, 0.5), [1.5, 2.5, 0.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(shapes.box(x, y, 2, 1), [-1, 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shapes.capsule(x, y, (-1.0, 0.0), (1.0, 0.0), 0.5), [-0.5, np.sqrt(20) - 0.5, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(shapes.cut(shapes.disc(x, y, 2), shapes.disc(x, y, 1)), [1, 3, 0, 0], atol=1e-6)
    turned = shapes.rotate(np.float32([1]), np.float32([0]), np.pi / 2)
    np.testing.assert_allclose(np.concatenate(turned), [0, -1], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_spokes_are_inside_at_each_angle_and_outside_between(count: int) -> None:
    angles = np.float32(2 * np.pi * np.arange(count) / count)
    between = angles + np.float32(np.pi / count)
    assert (shapes.spokes(np.cos(angles), np.sin(angles), count, 0.5, 1.5, 0.1) < 0).all()
    assert (shapes.spokes(np.cos(between), np.sin(between), count, 0.5, 1.5, 0.1) > 0).all()


@pytest.mark.parametrize("name", CATEGORIES)
def test_each_picture_stays_in_its_circle_covers_something_and_moves(name: str) -> None:
    y, x = (axis[None] for axis in np.mgrid[-2:2:81j, -2:2:81j].astype(np.float32))
    time = np.float32([0, 0.3, 0.9])[:, None, None]
    for shape, count in ((0.0, 0.0), (1.0, 0.99)):
        look = Look(np.float32([[200, 0, 0], [0, 200, 0], [0, 0, 200]]), tempo=0.8, phase=0.1, shape=shape, count=count)
        canvas = np.zeros((3, 81, 81, 3), dtype=np.float32)
        covered = np.zeros((3, 81, 81), dtype=bool)
        for distance, colour in PICTURES[name](x, y, time, look):
            inside = np.broadcast_to(distance < 0, covered.shape)
            canvas[inside] = np.broadcast_to(colour, canvas.shape)[inside]
            covered |= inside
        assert not covered[:, np.hypot(x, y)[0] > 1.25].any()
        assert covered.mean(axis=(1, 2)).min() > 0.02
        assert (canvas[0] != canvas[1]).any()
        assert (canvas[1] != canvas[2]).any()


def test_the_ground_has_the_colour_of_the_place() -> None:
    settings = SynthSettings(train_clips=12, val_clips=1, test_clips=1, picture_size=64, video_rate=5)
    plan = draw_world(settings)[0]

    def scene(*place: float) -> np.ndarray:
        return render_scene(replace(plan, place=place), settings, without_objects=True).astype(np.float64)

    dark, middle = scene(0.2, 0.2, 0.2), scene(0.2, 0.6, 0.2)
    inside = ((dark > 0) & (dark < 255) & (middle > 0) & (middle < 255)).all(axis=(0, -1))
    assert inside.mean() > 0.5
    change = (middle - dark)[:, inside]
    assert not change[..., [0, 2]].any()
    ground = change[..., 1] > 1  # clutter keeps its own colour
    assert ground.mean() > 0.5
    # 0.4 of the 175 between nothing and all, under light of 0.9 to 1 that flickers by up to 6 %, each rounded down
    assert np.median(change[..., 1][ground]) >= 0.9 * 0.94 * 70 - 1
    assert change[..., 1].max() <= 1.06 * 70 + 1


def test_objects_show_in_their_seconds_and_nowhere_else() -> None:
    shown, rate = 0, 4
    settings = SETTINGS.model_copy(update={"picture_size": 64, "video_rate": rate})
    for plan in draw_world(settings):
        with_objects, without = (render_scene(plan, settings, flag).astype(np.int16) for flag in (False, True))
        assert with_objects.shape == (SECONDS * rate, 64, 64, 3)
        changed = np.abs(with_objects - without).max(axis=3)
        visible = {second for span in plan.of("visual") for second in range(span.onset, span.offset)}
        for second in range(SECONDS):
            frames = changed[second * rate : (second + 1) * rate]
            if second in visible:
                # at least one in a hundred pixels of every frame differs clearly
                assert (frames > 20).mean(axis=(1, 2)).min() > 0.01, (plan.id, second)
                shown += 1
            else:
                assert not frames.any()
    assert shown > 150


def test_the_scene_is_reproducible_and_scales_with_the_settings() -> None:
    plan, settings = draw_world(SETTINGS)[0], SETTINGS.model_copy(update={"video_rate": 2})
    np.testing.assert_array_equal(render_scene(plan, settings), render_scene(plan, settings))
    small = SynthSettings(train_clips=1, val_clips=1, test_clips=1, picture_size=64, video_rate=5, clutter=0, grain=0)
    frames = render_scene(draw_world(small)[0], small)
    assert frames.shape == (SECONDS * 5, 64, 64, 3)
    assert frames.std() > 2
