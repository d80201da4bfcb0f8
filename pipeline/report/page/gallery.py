"""The test clips that the page shows: which ones, what every run said of them, and the file to play."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.page.lanes import LANES, Reader
from pipeline.report.page.media import take_along
from pipeline.report.results import RunResult
from pipeline.report.settings import ReportSettings
from pipeline.tables import read_table
from pipeline.tasks import TASKS

NEEDED = ["row", "clip", "segment", "valid"]


def gallery(
    results: list[RunResult], settings: ReportSettings, index: pd.DataFrame, background: int, segment_seconds: float, directory: Path
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
    of_row: dict[int, int] = {}
    for name, table in answers.items():
        of_row |= main_classes(table[~table["row"].isin(list(of_row))], LANES[tasks[name]], background)
    chosen = choose(of_row, settings.gallery)
    files = index.set_index("row").loc[chosen]
    segments = max(int(table["segment"].max()) for table in answers.values()) + 1
    media = take_along(files, segments * segment_seconds, settings.media_megabytes, directory)
    by_row = {name: dict(tuple(table.groupby("row"))) for name, table in answers.items()}
    clips = []
    for row in chosen:
        said = {name: of_rows[row] for name, of_rows in by_row.items() if row in of_rows}
        name, some = next(iter(said.items()))
        clips.append({
            "row": int(row),
            "clip": files.loc[row, "clip"],
            "media": media[row],
            "segments": len(some),
            "seconds": segment_seconds,
            "classes": sorted(set(LANES[tasks[name]].events(some, background))) or [background],
            "right": {name: round(float(TASKS.get(tasks[name]).clip_scores(table)["score"].iloc[0]), 1) for name, table in said.items()},
            "lanes": {name: LANES[tasks[name]].lanes(table, background) for name, table in said.items()},
        })  # fmt: skip
    return clips


def answers_of(result: RunResult) -> pd.DataFrame:
    """Every test segment as the run's shown seed labelled it, in order."""
    assert result.directory is not None
    only = [("split", "==", "test"), ("seed", "==", result.shown_seed)]
    columns = [*NEEDED, *LANES[result.run.task].columns]
    return read_table(result.directory / "predictions.parquet", columns=columns, filters=only).sort_values(["row", "segment"])


def main_classes(segments: pd.DataFrame, reader: Reader, background: int) -> dict[int, int]:
    """By annotation row, the class of most of its event segments, the background where it has none."""
    classes = {}
    for row, of_row in segments.groupby("row"):
        events = reader.events(of_row, background)
        classes[int(str(row))] = int(np.bincount(events).argmax()) if events else background
    return classes


def choose(classes: Mapping[int, int], count: int) -> list[int]:
    """Annotation rows, known by their class, spread over the classes: the first of each, then the second of each, until there are enough;
    in index order."""
    of_row = pd.Series(classes).sort_index()
    turn = of_row.groupby(of_row).cumcount()
    order = pd.DataFrame({"turn": turn, "class": of_row}).sort_values(["turn", "class"], kind="stable")
    return sorted(int(row) for row in order.index[:count])
