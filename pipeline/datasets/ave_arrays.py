"""Read AVE's HDF5 files: row orders of the splits, published labels, the negatives of weak training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.arrays import read_array
from pipeline.datasets.base import DatasetSettings, Row, Split, count_lines
from pipeline.datasets.segments import occupied

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def read_orders(directory: Path, suffix: str, rows: int, problems: list[str]) -> dict[Split, list[int]]:
    """Read each split's row numbers (from 0) from ``{train,val,test}_order<suffix>.h5``; {} without any of the files.

    These go to ``problems``: one or two missing files, a row outside 0 .. ``rows`` - 1, a row named twice.
    """
    paths = {split: directory / f"{split}_order{suffix}.h5" for split in SPLITS}
    if not any(path.is_file() for path in paths.values()):
        return {}
    orders: dict[Split, list[int]] = {}
    seen: dict[int, str] = {}
    for split, path in paths.items():
        try:
            values = read_array(path, (None,), longest=10 * rows + 1000)
        except ValueError as error:
            problems.append(f"{path}: {error}")
            continue
        good = (values >= 0) & (values < rows) & (values == np.floor(values))
        outside, orders[split] = values[~good].tolist(), values[good].astype(np.int64).tolist()
        problems += [
            f"{path}: {line}" for line in count_lines(f"numbers of no row of Annotations.txt (0 to {rows - 1})", list(map(str, outside)))
        ]
        twice = [row for row in orders[split] if seen.setdefault(row, path.name) != path.name]
        twice += [row for row, times in Counter(orders[split]).items() if times > 1]
        problems += [f"{path}: {line}" for line in count_lines("rows named twice in the order files", list(map(str, twice)))]
    return orders


def negative_problems(directory: Path, negatives: int, classes: int) -> list[str]:
    """Check that ``labels_noisy.h5``, if it exists, has ``dataset.negatives`` clips, all of them background."""
    path = directory / "labels_noisy.h5"
    if not negatives or not path.is_file():
        return []
    try:
        labels = read_array(path, (None, classes + 1), longest=10 * negatives + 1000)
    except ValueError as error:
        return [f"{path}: {error}"]
    problems = []
    if len(labels) != negatives:
        problems.append(f"{path}: {len(labels)} clips, but dataset.negatives is {negatives}")
    others = np.flatnonzero(labels.argmax(axis=1) != classes)
    return problems + [f"{path}: {line}" for line in count_lines("clips that are not background", list(map(str, others)))]


def label_report(directory: Path, rows: list[Row], classes: list[str], settings: DatasetSettings) -> list[str]:
    """Compare the published label files in ``directory`` with the labels rebuilt from the text, row by row.

    ``labels_closs.h5``: (N, T), event or not; ``mil_labels.h5``: (N, C+1), classes of the clip; ``labels.h5`` and
    ``right_labels.h5``: (N, T, C+1). Index C is the background.
    """
    if not rows:
        return []
    grid = settings.segments, settings.segment_seconds, settings.segment_rule
    known = [occupied(row.events, classes, "av", *grid).T for row in rows]  # (T, C) each
    full = np.stack([np.concatenate([table, ~table.any(axis=1, keepdims=True)], axis=1) for table in known])
    weak = np.array([[name in row.clip_labels for name in classes] + [not row.clip_labels] for row in rows])
    rebuilt = {"labels_closs.h5": ~full[:, :, -1], "mil_labels.h5": weak, "labels.h5": full, "right_labels.h5": full}
    return [line for name, table in rebuilt.items() if (directory / name).is_file() for line in _agreement(directory / name, table)]


def _agreement(path: Path, rebuilt: NDArray[np.bool_]) -> list[str]:
    """Count the segments (for (N, C+1): clips) that are equal, and list the rows that differ."""
    try:
        published = read_array(path, rebuilt.shape)
    except ValueError as error:
        return [f"{path.name} cannot be compared: {error}"]
    equal = published == rebuilt
    if path.name != "labels_closs.h5":
        equal = equal.all(axis=-1)
    unit = "clips" if equal.ndim == 1 else "segments"
    line = f"{path.name}: {np.count_nonzero(equal)} of {equal.size} {unit} as rebuilt from Annotations.txt"
    differing = np.flatnonzero(~equal.reshape(len(equal), -1).all(axis=1))
    return [line, *count_lines(f"{path.name}: rows that differ", list(map(str, differing)))]
