"""Members of a task whose answers are no events along a clip: each refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import pandas as pd
from torch import Tensor


def attention(scores: Any) -> None:
    """No weights of positions that an answer could be shown with."""


def tracks(scores: Any, mask: Tensor, classes: Sequence[str]) -> NoReturn:
    _refuse()


def table_tracks(lines: pd.DataFrame, classes: Sequence[str]) -> NoReturn:
    _refuse()


def lanes(lines: pd.DataFrame, num_classes: int) -> NoReturn:
    _refuse()


def true_classes(lines: pd.DataFrame, num_classes: int) -> NoReturn:
    _refuse()


def eventful(lines: pd.DataFrame) -> NoReturn:
    _refuse()


def _refuse() -> NoReturn:
    raise TypeError("the task's answers are no events along a clip: it has no tracks")
