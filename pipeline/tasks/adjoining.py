"""Members for a task whose windows of a long file lie end to end: labels of segments cannot be averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

overlapping_windows = False


def joined(windows: Sequence[tuple[float, Any]], window_seconds: float, segment_seconds: float, seconds: float) -> NoReturn:
    """Raise TypeError: the tracks of the windows are put one after another."""
    raise TypeError("the task's windows do not overlap; put their tracks one after another")
