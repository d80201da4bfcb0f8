"""Spans in seconds on the grid of segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.base import Event, Modality


def occupied(
    events: Iterable[Event], classes: Sequence[str], modality: Modality, segments: int, segment_seconds: float = 1.0
) -> NDArray[np.bool_]:
    """(C, T) bool: True where an event of the class, in that modality, covers at least half of the segment.

    With whole seconds, as AVE and LLP have them, that is every segment of [onset, offset). An event whose offset is not after its onset
    covers nothing. Classes may overlap.

    Raises:
        KeyError: a label that is not in ``classes``.
    """
    number = {name: position for position, name in enumerate(classes)}
    table = np.zeros((len(classes), segments), dtype=bool)
    starts = np.arange(segments) * segment_seconds
    for event in events:
        overlap = np.minimum(starts + segment_seconds, event.offset) - np.maximum(starts, event.onset)
        if event.modality == modality:
            table[number[event.label]] |= overlap > segment_seconds / 2 - 1e-9  # 1e-9 s: half a segment, but for rounding
    return table
