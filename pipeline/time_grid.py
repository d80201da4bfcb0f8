"""Time grid of a feature store: the moment that each of its rows stands for, in seconds.

>>> grid = TimeGrid(step_seconds=0.32, first_seconds=0.48)  # UnAV-100's I3D features: row i is the window [0.32 i, 0.32 i + 0.96) s
>>> round(grid.seconds(10), 2), round(grid.steps(3.68), 2)
(3.68, 10.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Moments = TypeVar("Moments", float, NDArray[np.floating], torch.Tensor)


@dataclass(frozen=True)
class TimeGrid:
    """Rows at equal distances.

    step_seconds: from one row to the next.
    first_seconds: centre of row 0.
    """

    step_seconds: float
    first_seconds: float

    @classmethod
    def of_segments(cls, segment_seconds: float) -> TimeGrid:
        """Grid of segments laid end to end from the start of a clip."""
        return cls(segment_seconds, segment_seconds / 2)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> TimeGrid:
        """Read the grid of a store's ``spec.json``; one that states no grid holds segments laid end to end."""
        plain = cls.of_segments(spec["segment_seconds"])
        return cls(spec.get("step_seconds", plain.step_seconds), spec.get("first_seconds", plain.first_seconds))

    def facts(self, segment_seconds: float) -> dict[str, float]:
        """What ``spec.json`` states beside ``segment_seconds``: nothing for segments laid end to end."""
        if self == self.of_segments(segment_seconds):
            return {}
        return {"step_seconds": self.step_seconds, "first_seconds": self.first_seconds}

    def seconds(self, steps: Moments) -> Moments:
        """Turn places on the grid (0 is the centre of row 0; fractions and places before it too) into seconds."""
        return steps * self.step_seconds + self.first_seconds

    def steps(self, seconds: Moments) -> Moments:
        """Turn seconds into places on the grid; moments before row 0 give negative places."""
        return (seconds - self.first_seconds) / self.step_seconds


ONE_SECOND = TimeGrid.of_segments(1.0)
