"""The eight classes' moving pictures, each a stack of painted shapes from back to front.

Every painter takes object coordinates x, y (F, h, w) in units of the object's radius (all of it lies within 1.25),
the time t (F, 1, 1) in seconds and the look of this clip's object, and yields layers: a signed distance and a colour.
Some pairs are kept close on purpose: bell and siren lamp (domes), rotor and clock (a disc with turning arms),
violin and guitar (a waisted body with a neck), dog and truck (a long body on legs or wheels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.shapes import Field, box, capsule, cut, disc, ring, rotate, spokes, union

Colour = NDArray[np.floating]  # (3,) or (F, 1, 1, 3), RGB in 0..255
Layer = tuple[Field, Colour]


@dataclass(frozen=True)
class Look:
    """How one clip's object looks and moves.

    colours: (3, 3).
    tempo: cycles per second.
    phase: start of the cycle in 0..1.
    shape, count: two free proportions in 0..1.
    """

    colours: Colour
    tempo: float
    phase: float
    shape: float
    count: float

    def cycle(self, t: Field) -> Field:
        """The angle of the motion in radians, (F, 1, 1)."""
        return 2 * np.pi * (self.tempo * t + self.phase)


def bell(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A bell that swings about its top, its clapper lagging behind."""
    swing = 0.4 * np.sin(look.cycle(t))
    bx, by = rotate(x, y + 0.8, swing)
    cx, cy = rotate(x, y + 0.8, 0.8 * np.sin(look.cycle(t) - 0.9))
    yield disc(cx, cy - 1.45, 0.16), look.colours[1]
    flare = 0.32 + (0.12 + 0.14 * look.shape) * np.clip(by - 0.1, 0, 1.3) ** 2
    yield np.maximum(np.abs(bx) - flare, np.abs(by - 0.75) - 0.6), look.colours[0]
    yield disc(bx, by - 0.22, 0.33), look.colours[0]
    yield box(bx, by - 1.3, 0.3 + (0.12 + 0.14 * look.shape) * 1.45, 0.08), look.colours[1]


def siren(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A warning lamp: a dome on a foot, its light turning round."""
    glow = np.sin(look.cycle(t))
    light = (0.6 + 0.4 * glow)[..., None] * look.colours[0] + (25 * np.maximum(glow, 0))[..., None]
    width = 0.5 + 0.15 * look.shape
    yield union(np.maximum(disc(x, y - 0.1, width), y - 0.1), box(x, y - 0.3, width, 0.25)), light
    yield box(x - width * 0.75 * np.cos(look.cycle(t)), y - 0.1, 0.09, 0.4), np.array([250, 245, 225], dtype=np.float32)
    yield box(x, y - 0.62, width + 0.15, 0.14), look.colours[1]


def clock(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A dial with hour marks; one hand steps, the other creeps."""
    marks = 4 if look.count < 0.3 else 12
    yield disc(x, y, 0.95), look.colours[1]
    yield disc(x, y, 0.82), look.colours[0]
    yield spokes(x, y, marks, 0.62, 0.78, 0.035), look.colours[2]
    step = np.floor(look.tempo * 2 * t + 0.01) * (2 * np.pi / 12) + 6 * look.phase
    hx, hy = rotate(x, y, step)
    yield box(hx - 0.25, hy, 0.38, 0.05), look.colours[2]
    hx, hy = rotate(x, y, 0.1 * look.cycle(t) + 9 * look.phase)
    yield box(hx - 0.17, hy, 0.25, 0.08), look.colours[2]


def helicopter(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A rotor seen from above: blades turn over a hull with a tail."""
    hull = capsule(x, y, (-0.2, 0.0), (0.25, 0.0), 0.28 + 0.1 * look.shape)
    yield union(hull, capsule(x, y, (0.2, 0.0), (0.95, 0.0), 0.07)), look.colours[0]
    yield box(x - 0.92, y, 0.05, 0.22), look.colours[1]
    bx, by = rotate(x, y, 2.7 * look.cycle(t))
    yield spokes(bx, by, 2 + int(3 * look.count), 0.0, 0.95, 0.08), look.colours[2]
    yield disc(x, y, 0.13), look.colours[1]


def violin(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A waisted body with a neck; a bow goes to and fro across it."""
    yield box(x, y + 0.5, 0.07, 0.48), look.colours[1]
    yield _waisted(x, y, 0.30 + 0.05 * look.shape, 0.36 + 0.06 * look.shape), look.colours[0]
    yield union(capsule(np.abs(x), y, (0.17, 0.15), (0.17, 0.45), 0.03), box(x, y - 0.55, 0.12, 0.12)), look.colours[1]
    yield box(x, y - 0.0, 0.04, 0.6), look.colours[1]
    slide = 0.45 * np.sin(look.cycle(t))
    bx, by = rotate(x, y - 0.25, -0.25)
    yield box(bx - slide, by, 0.6, 0.04), look.colours[2]


def guitar(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A waisted body with a sound hole and a long neck; a hand plucks up and down."""
    yield box(x, y + 0.5, 0.09, 0.5), look.colours[1]
    yield box(x, y + 0.92, 0.15, 0.1), look.colours[1]
    yield _waisted(x, y, 0.4 + 0.06 * look.shape, 0.5 + 0.08 * look.shape), look.colours[0]
    yield disc(x, y - 0.3, 0.17), look.colours[2] * np.float32(0.5)
    yield box(x, y - 0.1, 0.03, 0.7), look.colours[1]
    pluck = 0.16 * np.sign(np.sin(2 * look.cycle(t))) * np.abs(np.sin(look.cycle(t)))
    yield capsule(x, y, (0.12, 0.35 + pluck), (0.7, 0.55 + 0.5 * pluck), 0.1), look.colours[2]


def dog(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A four-legged animal that hops; head, ear and tail move with it."""
    hop = 0.1 * np.abs(np.sin(look.cycle(t)))
    y = y + hop
    stride = 0.22 * np.sin(look.cycle(t))
    for hip, sign in ((-0.42, 1), (-0.28, -1), (0.3, -1), (0.44, 1)):
        yield capsule(x, y, (hip, 0.2), (hip + sign * stride, 0.75), 0.08), look.colours[0] * np.float32(0.8)
    yield capsule(x, y, (0.5, 0.0), (0.8, -0.35 + stride), 0.06), look.colours[0]
    yield capsule(x, y, (-0.4, 0.08), (0.42, 0.08), 0.24 + 0.06 * look.shape), look.colours[0]
    yield union(disc(x + 0.62, y + 0.3, 0.26), capsule(x, y, (-0.7, -0.25), (-0.9, -0.22), 0.1)), look.colours[0]
    yield capsule(x, y, (-0.48, -0.45), (-0.42, -0.12 - stride * 0.4), 0.08), look.colours[1]
    yield disc(x + 0.68, y + 0.36, 0.05), look.colours[2]


def truck(x: Field, y: Field, t: Field, look: Look) -> Iterator[Layer]:
    """A lorry that shakes on turning wheels."""
    y_body = y + 0.04 * np.sin(5 * look.cycle(t))
    yield box(x - 0.22, y_body + 0.1, 0.62, 0.38 + 0.1 * look.shape), look.colours[0]
    yield union(box(x + 0.65, y_body - 0.05, 0.25, 0.3), box(x, y_body - 0.42, 0.9, 0.1)), look.colours[1]
    yield box(x + 0.72, y_body + 0.08, 0.13, 0.1), look.colours[2]
    for axle in (-0.55, 0.5):
        wx, wy = rotate(x - np.float32(axle), y - 0.55, -1.7 * look.cycle(t))
        yield disc(wx, wy, 0.27), np.array([30, 30, 34], dtype=np.float32)
        yield cut(ring(wx, wy, 0.12, 0.06), spokes(wx, wy, 4, 0.0, 0.3, 0.05)), look.colours[2]


def _waisted(x: Field, y: Field, upper: float, lower: float) -> Field:
    """Two discs, one above the other, and a box that joins them: the outline of a violin."""
    return union(disc(x, y + 0.02, upper), disc(x, y - 0.48, lower), box(x, y - 0.2, 0.75 * upper, 0.25))


PICTURES: dict[str, Callable[[Field, Field, Field, Look], Iterator[Layer]]] = {
    "Bell": bell,
    "Helicopter": helicopter,
    "Violin": violin,
    "Clock": clock,
    "Dog": dog,
    "Truck": truck,
    "Siren": siren,
    "Guitar": guitar,
}
