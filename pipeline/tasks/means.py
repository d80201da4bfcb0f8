"""Comparison of two runs for tasks whose headline is a weighted mean over clips."""

from __future__ import annotations

import pandas as pd

from pipeline.metrics.bootstrap import Difference, paired_bootstrap


def compare_means(first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
    """Mean of first - second over common annotation rows, with a 95 % interval by paired bootstrap over clips.

    Args:
        first, second: by annotation row ``score`` and ``weight``, its weight in the mean. None: the mean of first itself.
        groups: by annotation row; whole groups are drawn. None: clips are.

    Returns:
        None without common rows.
    """
    other = first.assign(score=0.0) if second is None else second
    pairs = first.join(other, how="inner", suffixes=("", "_second"))
    drawn = None if groups is None else groups.loc[pairs.index]
    return None if pairs.empty else paired_bootstrap(pairs["score"], pairs["score_second"], weights=pairs["weight"], groups=drawn)


def right_shares(lines: pd.DataFrame) -> pd.DataFrame:
    """Per annotation row, the share of its valid lines that are right.

    Returns:
        By annotation row ``score`` (percent, mean over seeds) and ``weight``, the number of valid lines.
    """
    valid = lines[lines["valid"]]
    by_row = (valid["true"] == valid["predicted"]).groupby(valid["row"])
    seeds = valid["seed"].nunique() if "seed" in valid else 1
    return pd.DataFrame({"score": by_row.mean() * 100, "weight": by_row.size() // seeds})


def changing_rows(lines: pd.DataFrame, columns: tuple[str, ...]) -> pd.Index:
    """Annotation rows in which some column takes several values in valid lines; all rows if there are none.

    Values may be arrays.
    """
    valid = lines[lines["valid"]]
    values = valid[list(columns)].map(lambda value: tuple(value) if hasattr(value, "__len__") else value)
    several = values.apply(lambda column: column.groupby(valid["row"]).nunique()).max(axis=1) > 1
    return several.index[several] if several.any() else several.index
