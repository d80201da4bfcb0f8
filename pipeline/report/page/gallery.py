"""The test clips that the page shows: which ones, what every row said of them, and the file to play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.report.page.lanes import LANES
from pipeline.report.page.media import take_along
from pipeline.report.results import RowResult
from pipeline.report.settings import ReportSettings

NEEDED = ["row", "clip", "segment", "valid", "true", "predicted", "event"]


def gallery(
    results: list[RowResult], settings: ReportSettings, index: pd.DataFrame, background: int, segment_seconds: float, directory: Path
) -> list[dict[str, Any]]:
    """The clips of the gallery as plain JSON; their files are put into ``directory``/media.

    Args:
        index: the annotation rows, with file and start of each.
        background: label index of the background, C.
    """
    answers = {result.name: answers_of(result) for result in results if result.scores and result.run.task in LANES}
    if not answers or not settings.gallery:
        return []
    tasks = {result.name: result.run.task for result in results}
    everything = pd.concat(answers.values()).drop_duplicates(["row", "segment"])
    chosen = choose(everything, background, settings.gallery)
    files = index.set_index("row").loc[chosen]
    segments = int(everything["segment"].max()) + 1
    media = take_along(files, segments * segment_seconds, settings.media_megabytes, directory)
    by_row = {name: dict(tuple(table.groupby("row"))) for name, table in answers.items()}
    clips = []
    for row in chosen:
        said = {name: of_rows[row] for name, of_rows in by_row.items() if row in of_rows}
        some = next(iter(said.values()))
        clips.append({
            "row": int(row),
            "clip": files.loc[row, "clip"],
            "media": media[row],
            "segments": len(some),
            "seconds": segment_seconds,
            "classes": sorted({int(label) for label in some.loc[some["valid"], "true"]} - {background}) or [background],
            "right": {name: share_right(table) for name, table in said.items()},
            "lanes": {name: LANES[tasks[name]](table, background) for name, table in said.items()},
        })  # fmt: skip
    return clips


def answers_of(result: RowResult) -> pd.DataFrame:
    """Every test segment as the row's shown seed labelled it, in order."""
    assert result.directory is not None
    only = [("split", "==", "test"), ("seed", "==", result.shown_seed)]
    return pd.read_parquet(result.directory / "predictions.parquet", columns=NEEDED, filters=only).sort_values(["row", "segment"])


def share_right(segments: pd.DataFrame) -> float:
    """Percent of the valid segments of one annotation row that have the true label."""
    valid = segments[segments["valid"]]
    return round(100 * float((valid["true"] == valid["predicted"]).mean()), 1)


def choose(segments: pd.DataFrame, background: int, count: int) -> list[int]:
    """Annotation rows spread over the classes: the first of each class, then the second of each, until there are enough; in index order.

    The class of a row is that of most of its event segments, the background's where it has none.
    """
    events = segments[(segments["true"] != background) & segments["valid"]]
    classes = events.groupby("row")["true"].agg(lambda labels: int(labels.mode().iloc[0]))
    of_row = classes.reindex(sorted(segments["row"].unique())).fillna(background).astype(int)
    turn = of_row.groupby(of_row).cumcount()
    order = pd.DataFrame({"turn": turn, "class": of_row}).sort_values(["turn", "class"], kind="stable")
    return sorted(int(row) for row in order.index[:count])
