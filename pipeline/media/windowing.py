"""Cut a film into windows that do not overlap, each as long as a training clip.

A window looks exactly like a training clip. (Overlapping windows would need averaging, which has no meaning for methods with one class per
window.) A rest shorter than half a segment, such as the 24 ms that encoders add after ten seconds, gets no window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Windowing:
    """How films are cut: windows of T segments of ``segment_seconds``."""

    segments: int
    segment_seconds: float

    @property
    def seconds(self) -> float:
        return self.segments * self.segment_seconds

    def windows(self, seconds: float) -> int:
        """The number of windows of a film of that length, at least one."""
        return max(1, math.ceil((seconds - self.segment_seconds / 2) / self.seconds))

    def starts(self, seconds: float) -> list[float]:
        """The start of each window of a film of that length, in seconds."""
        return [number * self.seconds for number in range(self.windows(seconds))]
