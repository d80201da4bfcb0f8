"""Plane shapes as signed distances: negative inside, zero on the outline, positive outside; all arrays broadcast.

Coordinates: x to the right, y downward, in units of the object's radius.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
Number = Field | float | np.floating


def rotate(x: Field, y: Field, angle: Number) -> tuple[Field, Field]:
    """Coordinates of a shape turned clockwise (y points down) by ``angle`` radians about the origin."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def disc(x: Field, y: Field, radius: float) -> Field:
    return np.sqrt(x * x + y * y) - np.float32(radius)


def ring(x: Field, y: Field, radius: float, half_width: float) -> Field:
    return np.abs(disc(x, y, radius)) - np.float32(half_width)


def box(x: Field, y: Field, half_width: Number, half_height: Number) -> Field:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def capsule(x: Field, y: Field, start: tuple[Number, Number], end: tuple[Number, Number], radius: float) -> Field:
    """A line from ``start`` to ``end`` with round ends and half width ``radius``."""
    run, rise = end[0] - start[0], end[1] - start[1]
    away_x, away_y = x - start[0], y - start[1]
    along = np.clip((away_x * run + away_y * rise) / (run * run + rise * rise), 0, 1)
    return disc(away_x - along * run, away_y - along * rise, radius)


def spokes(x: Field, y: Field, count: int, inner: float, outer: float, half_width: float) -> Field:
    """``count`` equal radial bars between two radii, evenly spread; the first points right."""
    step = np.float32(2 * np.pi / count)
    angle = np.arctan2(y, x)
    angle = angle - step * np.round(angle / step)
    distance = np.sqrt(x * x + y * y)
    return box(distance * np.cos(angle) - (inner + outer) / 2, distance * np.sin(angle), (outer - inner) / 2, half_width)


def union(*distances: Field) -> Field:
    return np.minimum.reduce(np.broadcast_arrays(*distances))


def cut(kept: Field, removed: Field) -> Field:
    """``kept`` without ``removed``."""
    return np.maximum(kept, -removed)
