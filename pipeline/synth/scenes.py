"""Render the pictures of one clip: a cluttered background under a drifting camera and, over it, every visible class."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synth.pictures import PICTURES, Look
from pipeline.synth.plan import CATEGORIES, ClipPlan, clip_generator
from pipeline.synth.settings import SynthSettings
from pipeline.synth.shapes import Field, box, capsule, disc, ring, rotate

Frames = NDArray[np.float32]  # (F, H, W, 3), RGB in 0..255
_BACKGROUND, _OBJECT, _CAMERA = 3, 4, 5  # purposes of the clip's random numbers


GROUND = 40.0, 215.0  # level of a primary colour where a place has none of it, and all of it; RGB in 0..255


@dataclass(frozen=True)
class Spot:
    """Where an object is on the screen: centre and radius in pixels."""

    across: float
    down: float
    radius: float


def render_scene(plan: ClipPlan, settings: SynthSettings, without_objects: bool = False) -> NDArray[np.uint8]:
    """Render the frames of a clip, (F, H, W, 3) uint8 RGB; ``without_objects`` leaves out every class."""
    size, rate = settings.picture_size, settings.video_rate
    drift = _drift(clip_generator(settings, plan.split, plan.index, _CAMERA, 0), plan.seconds * rate, size / 12)
    frames = _render_background(clip_generator(settings, plan.split, plan.index, _BACKGROUND), drift, size, plan.place, settings.clutter)
    if not without_objects:
        categories = sorted({span.category for span in plan.of("visual")})
        spots = _draw_spots(clip_generator(settings, plan.split, plan.index, _OBJECT), len(categories), size)
        for category, spot in zip(categories, spots, strict=True):
            rng = clip_generator(settings, plan.split, plan.index, _OBJECT, category)
            spans = [span for span in plan.of("visual") if span.category == category]
            shown = np.concatenate([np.arange(_frame(span.onset, rate), _frame(span.offset, rate)) for span in spans])
            if not len(shown):  # all its spans lie between the middles of two frames
                continue
            _paint_object(frames, rng, category, spot, shown, drift[shown] * np.float32(0.3), rate)
    return _film(clip_generator(settings, plan.split, plan.index, _CAMERA), frames, settings.grain)


def _frame(moment: float, rate: int) -> int:
    """Number of the first frame whose middle is not before ``moment``, in seconds."""
    return math.ceil(moment * rate - 0.5)


def _drift(rng: np.random.Generator, count: int, reach: float) -> Field:
    """Draw the camera's smooth path (F, 2), across and down, within +-``reach`` pixels."""
    knots = rng.uniform(-reach, reach, (2, 5))
    at = np.linspace(0, 4, count)
    return np.stack([ndimage.map_coordinates(line, [at], order=3, mode="nearest") for line in knots], axis=1).astype(np.float32)


def _render_background(rng: np.random.Generator, drift: Field, size: int, place: Sequence[float], clutter: int) -> Frames:
    """Render the background (F, H, W, 3) under the drifting camera.

    It is a still texture of the place's colour with shapes on it, larger than the screen.
    """
    margin = size // 6
    wide = size + 2 * margin
    canvas = np.zeros((wide, wide, 3), dtype=np.float32) + np.interp(place, (0, 1), GROUND).astype(np.float32)
    for cells in (3, 8, 24):
        blobs = rng.normal(0, 1, (cells, cells, 1)) * rng.uniform(0, 28) + rng.normal(0, 1, (cells, cells, 3)) * rng.uniform(0, 14)
        canvas += ndimage.zoom(blobs, (wide / cells, wide / cells, 1), order=1, grid_mode=True, mode="nearest").astype(np.float32)
    down, across = np.mgrid[0:wide, 0:wide].astype(np.float32)
    if rng.random() < 0.5:
        stripes = np.sin(rotate(across, down, rng.uniform(0, np.pi))[0] * rng.uniform(0.05, 0.6))
        canvas += rng.uniform(5, 25) * stripes[..., None]
    for _ in range(rng.integers(clutter // 2, clutter + 1)):
        distance = _draw_clutter(rng, across, down, wide)
        _blend(canvas, distance, _colour(rng, rng.uniform(0.15, 0.85)), 1.0)
    corners = np.round(margin + drift).astype(int)
    return np.stack([canvas[y : y + size, x : x + size] for x, y in corners])


def _draw_clutter(rng: np.random.Generator, across: Field, down: Field, wide: int) -> Field:
    """Draw a shape that belongs to no class, as a signed distance in pixels."""
    x, y = rotate(across - rng.uniform(0, wide), down - rng.uniform(0, wide), rng.uniform(0, np.pi))
    radius = rng.uniform(0.04, 0.16) * wide
    kind = rng.integers(4)
    if kind == 0:
        return disc(x, y, radius)
    if kind == 1:
        return ring(x, y, radius, 0.2 * radius)
    if kind == 2:
        return box(x, y, radius, radius * rng.uniform(0.2, 1))
    return capsule(x, y, (-radius, 0.0), (radius, 0.0), radius * rng.uniform(0.1, 0.3))


def _draw_spots(rng: np.random.Generator, count: int, size: int) -> list[Spot]:
    """Draw the spot of one object anywhere, of two side by side, or of more in two rows."""
    if count == 1:
        radius = rng.uniform(0.32, 0.42) * size
        return [Spot(rng.uniform(radius, size - radius), rng.uniform(radius, size - radius), radius)]
    radii = rng.uniform(0.23, 0.25, count) * size
    if count > 2:
        across, down = math.ceil(count / 2), 2
        radii *= min(1, 2 / across)
        cells = rng.permutation(across * down)[:count]
        return [
            Spot(float(cell % across + 0.5) * size / across, float(cell // across + 0.5) * size / down, radius)
            for cell, radius in zip(cells, radii, strict=True)
        ]
    columns = (np.arange(count) + 0.5) * size / count
    return [
        Spot(column, rng.uniform(radius, size - radius), radius) for column, radius in zip(rng.permutation(columns), radii, strict=True)
    ]


def _paint_object(
    frames: Frames, rng: np.random.Generator, category: int, spot: Spot, shown: NDArray[np.int_], drift: Field, rate: int
) -> None:
    """Paint the class's picture into the ``shown`` frames, in place, within the box that it can reach."""
    size = frames.shape[1]
    look = Look(_draw_palette(rng), rng.uniform(0.5, 1.3), rng.random(), rng.random(), rng.random())
    tilt, mirror = rng.uniform(-0.35, 0.35), rng.choice([-1.0, 1.0])
    opacity = rng.uniform(0.9, 1.0)
    reach = 1.25 * spot.radius + np.abs(drift).max()
    left, right = (int(np.clip(spot.across + side * reach, 0, size)) for side in (-1, 1))
    top, bottom = (int(np.clip(spot.down + side * reach, 0, size)) for side in (-1, 1))
    down, across = np.mgrid[top:bottom, left:right].astype(np.float32)
    x = np.float32(mirror) * (across - np.float32(spot.across) + drift[:, 0, None, None]) / np.float32(spot.radius)
    y = (down - np.float32(spot.down) + drift[:, 1, None, None]) / np.float32(spot.radius)
    x, y = rotate(x, y, np.float32(tilt))
    time = (shown / rate).astype(np.float32)[:, None, None]
    patch = frames[shown, top:bottom, left:right]
    for distance, colour in PICTURES[CATEGORIES[category]](x, y, time, look):
        _blend(patch, distance * np.float32(spot.radius), colour, opacity)
    frames[shown, top:bottom, left:right] = patch


def _blend(canvas: NDArray[np.float32], distance: Field, colour: NDArray, opacity: float) -> None:
    """Paint ``colour`` where ``distance`` (pixels) is negative, with an outline one pixel soft; in place."""
    cover = np.clip(np.float32(0.5) - distance, 0, 1).astype(np.float32) * np.float32(opacity)
    canvas += cover[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


def _film(rng: np.random.Generator, frames: Frames, grain: float) -> NDArray[np.uint8]:
    """Add slowly flickering light, a slightly random exposure, and film grain (one tile of noise, shifted every frame)."""
    count, size = frames.shape[:2]
    tile = rng.normal(0, rng.uniform(0, grain), (2 * size, 2 * size, 1)).astype(np.float32)
    shifts = rng.integers(0, size, (count, 2))
    turns = rng.uniform(1, 10) * np.linspace(0, 1, count)
    light = rng.uniform(0.9, 1.0) * (1 + rng.uniform(0, 0.06) * np.sin(2 * np.pi * turns))
    frames *= light.astype(np.float32)[:, None, None, None]
    for image, (y, x) in zip(frames, shifts, strict=True):
        image += tile[y : y + size, x : x + size]
    return np.clip(frames, 0, 255).astype(np.uint8)


def _draw_palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw body, second and detail colour (3, 3): one light, one dark, one between."""
    lights = rng.permutation([rng.uniform(0.1, 0.25), rng.uniform(0.4, 0.6), rng.uniform(0.75, 0.95)])
    return np.stack([_colour(rng, light) for light in lights]).astype(np.float32)


def _colour(rng: np.random.Generator, light: float) -> NDArray[np.float64]:
    """Draw an RGB colour in 0..255 of random hue and saturation, at a lightness in 0..1."""
    return 255 * np.array(colorsys.hls_to_rgb(rng.random(), light, rng.uniform(0.1, 0.8)))
