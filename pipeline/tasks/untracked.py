"""Members for a task whose answers do not locate events within a clip: all but ``attention`` raise TypeError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import pandas as pd
from torch import Tensor


def attention(scores: Any) -> None:
    """Return None: there are no position weights to show."""


def tracks(scores: Any, mask: Tensor, classes: Sequence[str], segment_seconds: float = 1.0) -> NoReturn:
    _refuse()


def table_tracks(lines: pd.DataFrame, classes: Sequence[str], segment_seconds: float = 1.0) -> NoReturn:
    _refuse()


def lanes(lines: pd.DataFrame, num_classes: int, segment_seconds: float = 1.0) -> NoReturn:
    _refuse()


def true_classes(lines: pd.DataFrame, num_classes: int) -> NoReturn:
    _refuse()


def eventful(lines: pd.DataFrame) -> NoReturn:
    _refuse()


def _refuse() -> NoReturn:
    raise TypeError("the task has no tracks: its answers do not locate events within a clip")
