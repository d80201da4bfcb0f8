"""Cut a film into windows, each as long as a training clip.

A window looks exactly like a training clip. Windows do not overlap, unless a task joins the answers of overlapping ones: spans can be
joined, one class for each segment cannot be averaged. A rest shorter than half a segment, such as the 24 ms that encoders add after ten
seconds, gets no window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Windowing:
    """How films are cut: windows of T segments of ``segment_seconds``.

    hop: segments from the start of one window to that of the next; None: all T.
    """

    segments: int
    segment_seconds: float
    hop: int | None = None

    @property
    def seconds(self) -> float:
        return self.segments * self.segment_seconds

    @property
    def hop_segments(self) -> int:
        return self.segments if self.hop is None else self.hop

    @property
    def hop_seconds(self) -> float:
        return self.hop_segments * self.segment_seconds

    def windows(self, seconds: float) -> int:
        """The number of windows of a film of that length, at least one."""
        rest = seconds - self.segment_seconds / 2 - (self.seconds - self.hop_seconds)
        return max(1, math.ceil(rest / self.hop_seconds))

    def starts(self, seconds: float) -> list[float]:
        """The start of each window of a film of that length, in seconds."""
        return [number * self.hop_seconds for number in range(self.windows(seconds))]
