"""The page's gallery of test clips: which clips, the answers of every run, and the file to play."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.page.media import take_along
from pipeline.report.results import RunResult
from pipeline.report.settings import ReportSettings
from pipeline.tables import read_table
from pipeline.tasks import TASKS, Task
from pipeline.tasks.lanes import Lane

NEEDED = ["row", "clip"]
DIGITS = 3  # of the scores along a lane


def gallery(
    results: list[RunResult], settings: ReportSettings, index: pd.DataFrame, background: int, segment_seconds: float, directory: Path
) -> list[dict[str, Any]]:
    """The clips of the gallery as plain JSON; their files go into ``directory``/media.

    Args:
        index: the annotation rows, each with its file and start.
        background: label index of the background, C.
        segment_seconds: of runs whose features do not say it. Lanes of all runs are brought to the shortest segments of any.
    """
    answers = {result.name: answers_of(result) for result in results if result.scores and TASKS.get(result.run.task).has_tracks}
    if not answers or not settings.gallery:
        return []
    tasks = {result.name: TASKS.get(result.run.task) for result in results}
    of_row: dict[int, int] = {}
    for name, table in answers.items():
        of_row |= main_classes(table[~table["row"].isin(list(of_row))], tasks[name], background)
    chosen = choose_rows(of_row, settings.gallery)
    files = index.set_index("row").loc[chosen]
    by_row = {name: dict(tuple(table.groupby("row"))) for name, table in answers.items()}
    grids = {result.name: result.segment_seconds or segment_seconds for result in results if result.name in answers}
    unit = min(grids.values())
    lanes = {
        row: {name: tasks[name].lanes(of_rows[row], background, grids[name]) for name, of_rows in by_row.items() if row in of_rows}
        for row in chosen
    }
    segments = {
        row: max(round(len(lane.scores) * grids[name] / unit) for name, of_run in of_row.items() for lane in of_run)
        for row, of_row in lanes.items()
    }
    for row, seconds in files["seconds"].dropna().items():  # a shorter clip ends its timeline where it ends
        segments[row] = min(segments[row], math.ceil(round(seconds / unit, 6)))
    lanes = {
        row: {name: [on_grid(lane, grids[name] / unit, segments[row]) for lane in of_run] for name, of_run in of_row.items()}
        for row, of_row in lanes.items()
    }
    media = take_along(files, max(segments.values()) * unit, settings.media_megabytes, directory)
    clips = []
    for row in chosen:
        said = {name: by_row[name][row] for name in lanes[row]}
        name, some = next(iter(said.items()))
        clips.append({
            "row": int(row),
            "clip": files.loc[row, "clip"],
            "media": media[row],
            "segments": segments[row],
            "seconds": unit,
            "classes": sorted(set(tasks[name].true_classes(some, background))) or [background],
            "right": {name: round(float(tasks[name].clip_scores(table)["score"].iloc[0]), 1) for name, table in said.items()},
            "lanes": {name: [_plain(lane) for lane in of_run] for name, of_run in lanes[row].items()},
        })  # fmt: skip
    return clips


def on_grid(lane: Lane, scale: float, segments: int) -> Lane:
    """Bring a lane to the segments that all lanes of a clip share.

    Scores after the lane's end are 0; scores after the clip's end are left out.

    Args:
        scale: length of the lane's own segments in shared ones.
        segments: number of shared ones.
    """
    if scale == 1 and len(lane.scores) == segments:
        return lane
    places = [int((segment + 0.5) / scale) for segment in range(segments)]
    scores = [lane.scores[place] if place < len(lane.scores) else 0.0 for place in places]
    truth, spans = ([[start * scale, end * scale, *rest] for start, end, *rest in of_lane] for of_lane in (lane.truth, lane.spans))
    return replace(lane, truth=truth, spans=spans, scores=scores)


def _plain(lane: Lane) -> dict[str, Any]:
    return asdict(lane) | {"scores": [round(score, DIGITS) for score in lane.scores]}


def answers_of(result: RunResult) -> pd.DataFrame:
    """The test predictions of the run's shown seed, ordered by annotation row, with only the columns that the page needs."""
    assert result.directory is not None
    only = [("split", "==", "test"), ("seed", "==", result.shown_seed)]
    task = TASKS.get(result.run.task)
    columns = list(dict.fromkeys([*NEEDED, *task.COMPARED, *task.SHOWN]))
    return read_table(result.directory / "predictions.parquet", columns=columns, filters=only).sort_values("row", kind="stable")


def main_classes(lines: pd.DataFrame, task: Task, background: int) -> dict[int, int]:
    """For each annotation row the most frequent class of its event segments; the background if it has no event."""
    classes = {}
    for row, of_row in lines.groupby("row"):
        events = task.true_classes(of_row, background)
        classes[int(str(row))] = int(np.bincount(events).argmax()) if events else background
    return classes


def choose_rows(classes: Mapping[int, int], count: int) -> list[int]:
    """Choose ``count`` annotation rows spread over the classes, in index order.

    The first row of each class comes first, then the second of each, until there are enough.

    Args:
        classes: the class of each annotation row.
    """
    of_row = pd.Series(classes).sort_index()
    turn = of_row.groupby(of_row).cumcount()
    order = pd.DataFrame({"turn": turn, "class": of_row}).sort_values(["turn", "class"], kind="stable")
    return sorted(int(row) for row in order.index[:count])
