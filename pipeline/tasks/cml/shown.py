"""Views of cross-modality localization predictions for the report."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Difference
from pipeline.tasks.grid import ScoreGrid
from pipeline.tasks.means import compare_means, right_shares

SECONDARY: Mapping[str, str] = {"a2v": "A2V", "v2a": "V2A", "a2v_iou": "A2V IoU", "v2a_iou": "V2A IoU"}
GRID: ScoreGrid | None = None
CLIP_SCORE = "right"
has_tracks = False
COMPARED: tuple[str, ...] = ("valid", "true", "predicted")
SHOWN: tuple[str, ...] = ()
CONFIDENT: tuple[str, ...] = ()


def clip_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """Per annotation row with questions, the share of its two questions answered exactly.

    Returns:
        By annotation row ``score`` (percent, mean over seeds) and ``weight``, the number of questions.
    """
    return right_shares(lines)


def compare(first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
    """First minus second in accuracy; all questions weigh the same."""
    return compare_means(clip_scores(first), None if second is None else clip_scores(second), groups)


def confidences(lines: pd.DataFrame) -> dict[str, tuple[NDArray, NDArray]]:
    return {}
