"""How good segment labels are where the truth is known.

The scores of parsing, and precision, recall and F1 by modality and class.

Shape letters: N annotation rows, T segments, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.datasets.base import Event
from pipeline.datasets.segments import occupied, rule_of
from pipeline.labels.teachers import Modality
from pipeline.metrics.parsing import Counts, count, scores_of

Tables = Mapping[Modality, NDArray[np.bool_]]  # by modality, (N, T, C)
SHOWN = ("segment/A", "segment/V", "segment/AV", "segment/Type@AV", "segment/Event@AV", "event/Type@AV")
MODALITIES: tuple[Modality, Modality] = ("audio", "visual")
KINDS: dict[Modality, str] = {"audio": "segment/A", "visual": "segment/V"}


def truth_of(rows: pd.DataFrame, classes: Sequence[str], segments: int, segment_seconds: float) -> Tables:
    """The true segments of annotation rows from their events; an ``av`` event counts in both modalities."""
    rule = rule_of(rows)
    tables = {modality: np.zeros((len(rows), segments, len(classes)), bool) for modality in MODALITIES}
    for number, of_row in enumerate(rows["events"]):
        events = [Event(**event) for event in of_row]
        both = occupied(events, classes, "av", segments, segment_seconds, rule)
        for modality, table in tables.items():
            table[number] = (both | occupied(events, classes, modality, segments, segment_seconds, rule)).T
    return tables


def counted(labels: Tables, truth: Tables, valid: NDArray[np.bool_]) -> dict[str, Counts]:
    """Count right, false and missed labels by kind, clip and class; see :func:`pipeline.metrics.parsing.count`."""
    tables = [part[modality].transpose(0, 2, 1) for part in (labels, truth) for modality in MODALITIES]
    return count(tables[0], tables[1], tables[2], tables[3], valid)


def quality(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """Scores in percent: those of parsing, clip by clip; ``audio`` and ``visual``: rates over all segments and classes together."""
    scores = scores_of(counts)
    of_modality = {modality: rates(_summed(counts[kind], (0, 1))) for modality, kind in KINDS.items()}
    return {key: scores[key] for key in SHOWN} | of_modality


def class_table(counts: Mapping[str, Counts], classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one line per modality and class: rates in percent, and the number of segments that are true and labelled."""
    for modality, kind in KINDS.items():
        of_classes = _summed(counts[kind], 0)
        for number, label in enumerate(classes):
            one = Counts(*(part[number] for part in of_classes))
            numbers = {"true": int(one.right + one.missed), "labelled": int(one.right + one.false)}
            yield {"modality": modality, "class": label, **rates(one), **numbers}


def rates(counts: Counts) -> dict[str, float | None]:
    """Precision, recall and F1 of summed counts, in percent; None where nothing is labelled, or nothing is true."""
    right = 100.0 * float(counts.right)
    totals = {
        "precision": (right, counts.right + counts.false),
        "recall": (right, counts.right + counts.missed),
        "f1": (2 * right, 2 * counts.right + counts.false + counts.missed),
    }
    return {name: above / float(total) if total else None for name, (above, total) in totals.items()}


def _summed(counts: Counts, axes: int | tuple[int, ...]) -> Counts:
    return Counts(*(part.sum(axis=axes) for part in counts))
