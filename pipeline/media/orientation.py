"""Read how a camera was held: the display matrix of a decoded frame as turns and a flip."""

from __future__ import annotations

import struct
from typing import Any


def orientation(frame: Any) -> tuple[int, bool]:
    """How to make a decoded frame upright: degrees to turn counter-clockwise, then whether to flip left to right.

    The display matrix (ISO 14496-12, 6.2.2; 16.16 fixed point, row vectors) maps a decoded pixel (x, y) to
    (a*x + c*y, b*x + d*y) with y downwards; cameras write one of its eight axis-aligned forms.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 0, False
    a, b, _, c, d = struct.unpack("<5i", bytes(side_data)[:20])
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    return ORIENTATIONS.get(signs, (0, False))


ORIENTATIONS: dict[tuple[int, ...], tuple[int, bool]] = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (270, False),
    (-1, 0, 0, -1): (180, False),
    (0, -1, 1, 0): (90, False),
    (-1, 0, 0, 1): (0, True),
    (0, 1, 1, 0): (270, True),
    (1, 0, 0, -1): (180, True),
    (0, -1, -1, 0): (90, True),
}
