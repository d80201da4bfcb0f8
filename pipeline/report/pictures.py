"""Pictures of one test clip: a timeline of truth and prediction, and the spatial attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.cache import Cache
from pipeline.datasets import read_index
from pipeline.errors import PipelineError
from pipeline.media.decoding import load_decoded
from pipeline.media.job import Job
from pipeline.report import attention, timeline
from pipeline.report.preview import preview
from pipeline.report.results import FEATURES, RunResult
from pipeline.sealed import read_sealed
from pipeline.tables import read_schema, read_table
from pipeline.tasks import TASKS, Task
from pipeline.tasks.tracks import named

STRIP_PICTURES = 5


@dataclass(frozen=True)
class Shown:
    """The clip to draw: its lines of predictions.parquet for one seed."""

    result: RunResult
    seed: int
    lines: pd.DataFrame

    @property
    def clip(self) -> str:
        return str(self.lines["clip"].iloc[0])


def pictures(
    results: list[RunResult], index: Path, manifest: pd.DataFrame, jobs: Mapping[str, Job], cache: Cache, directory: Path
) -> list[Path]:
    """Write ``timeline.png`` and, if the method has spatial attention, ``attention.png``; returns the paths written.

    Shown are the last run with spatial attention (without any, the last run with results), its best seed on test, and the clip that
    :func:`typical_clip` picks.

    Args:
        index: directory that the stage `index` wrote.
        manifest, jobs: the verdicts of `decode`; how each clip was decoded, by id.
        cache: the per-clip cache.
    """
    shown = choose(results)
    if shown is None:
        return []
    _, classes = read_index(index)
    keys = dict(zip(manifest["clip"], manifest["key"], strict=True))
    if keys.get(shown.clip) is None:  # imported features come without clips
        return []
    key = keys[shown.clip]
    try:
        frames, waveform, rate = load_decoded(cache, shown.clip, key, jobs.get(shown.clip))
    except PipelineError as error:  # the tables do not need the raw clip
        print(f"report: the pictures of a clip are left out: {error}", flush=True)
        return []
    assert shown.result.directory is not None
    spec = read_sealed(shown.result.directory / FEATURES)
    task, seconds = TASKS.get(shown.result.run.task), float(spec["segment_seconds"])
    tracks, truth = task.table_tracks(shown.lines, classes, seconds)
    segments, job = len(tracks), jobs.get(shown.clip)
    decoded = spec["segments"] if job is None else round(job.segments * job.segment_seconds / seconds)  # a short clip is padded
    small = preview(frames, waveform, rate, decoded)
    title = f"{shown.clip}: {shown.result.name}, seed {shown.seed}"
    written = [directory / "timeline.png"]
    judged = None if tracks.found is None else task.lanes(shown.lines, len(classes), seconds)
    timeline.draw(written[0], tracks, small, seconds, truth=truth, judged=judged, title=title)
    shape = spec["shapes"]["visual"]
    if "attention" in shown.lines and len(shape) == 3 and spec["encoders"]:
        weights = np.stack(list(shown.lines["attention"])).reshape(segments, *shape[:2])
        chosen = np.linspace(0, segments - 1, min(STRIP_PICTURES, segments)).round().astype(int)
        captions = [f"{timeline.clock(segment * seconds)}  {named(tracks, segment) or 'background'}" for segment in chosen]
        written.append(directory / "attention.png")
        transform = spec["encoders"]["visual"]["transform"]
        attention.strip(written[1], small.pictures[chosen], weights[chosen], transform, captions, title)
    return written


def choose(results: list[RunResult]) -> Shown | None:
    """Choose what to draw; None unless a run with results has a task that finds events in a clip."""
    ran = [r for r in results if r.scores and r.directory is not None and TASKS.get(r.run.task).has_tracks]
    if not ran:
        return None
    attending = [result for result in ran if "attention" in read_schema(_predictions(result)).names]
    result = (attending or ran)[-1]
    lines = read_table(_predictions(result))
    lines = lines[(lines["split"] == "test") & (lines["seed"] == result.best_seed)]
    row = typical_clip(lines, TASKS.get(result.run.task))
    return Shown(result, result.best_seed, lines[lines["row"] == row])


def typical_clip(lines: pd.DataFrame, task: Task) -> int:
    """The annotation row of median score (lower of two, first of equals) among the rows in which something changes."""
    right = task.clip_scores(lines)["score"][task.eventful(lines)].sort_values(kind="stable")
    return int(right.index[(len(right) - 1) // 2])


def _predictions(result: RunResult) -> Path:
    assert result.directory is not None
    return result.directory / "predictions.parquet"
