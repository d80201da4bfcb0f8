"""Write made features under UnAV-100's real annotations, in the published files and shapes, to try and time their readers.

The numbers come from no picture or sound. In a row inside an event the class's mean vectors are added to the picture's, the motion's and
the sound's row; in one stretch of most videos another class's to the sound's alone, or to the other two. Noise is added.

Shape letters: n rows of a video, C classes, D feature width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from pipeline.datasets.arrays import MADE_BY
from pipeline.datasets.unav100 import FILE, SPLITS, class_faults, faults, read_database
from pipeline.errors import InputProblems
from pipeline.publish import publishing
from pipeline.settings import Seed, Settings
from pipeline.synth.ave_features import directions, refuse_files_in
from pipeline.time_grid import TimeGrid

FRAMES, STACK, STEP = 25, 24, 8  # a second, in a row's window, from one window to the next, as published
GRID = TimeGrid(STEP / FRAMES, STACK / FRAMES / 2)
MISLED = 2 / 3  # share of videos with a class in one modality alone


class MadeVideoFeatures(Settings):
    """Size and type of the made features; the defaults are the published shapes."""

    every: int = Field(1, ge=1, description="take each n-th video of every split, for a small data set of the same make")
    visual: int = Field(1024, ge=1, le=65_536, description="width of a picture's and of a motion's row")
    audio: int = Field(128, ge=1, le=65_536, description="width of a sound's row")
    dtype: Literal["float16", "float32"] = Field("float32", description="of the files; float16 halves their 11 GB")
    seed: Seed = 0


def make_video_features(directory: Path, annotations: Path, settings: MadeVideoFeatures) -> str:
    """Write ``directory/av_features`` and ``directory/unav100_annotations.json``; return what to set. Nothing is overwritten.

    av_features: ``ID_rgb.npy`` and ``ID_flow.npy`` (n, 1024) and ``ID_vggish.npy`` (n, 128) of every video taken, and ``made_by.txt``,
    which an import reads.

    Raises:
        PipelineError: ``directory`` holds anything.
        InputProblems: the annotations cannot be read.
    """
    refuse_files_in(directory)
    database = read_database(path := annotations / FILE if annotations.is_dir() else annotations)
    problems = [f"database.{clip}{fault}" for clip, video in database.items() for fault in faults(clip, video)]
    if problems or (problems := list(class_faults(database))):
        raise InputProblems(str(path), problems)
    taken = thinned(database, settings.every)
    classes = 1 + max(event["label_id"] for video in taken.values() for event in video["annotations"])
    rng = np.random.default_rng(settings.seed)
    means = {name: directions(rng, classes, settings.audio if name == "vggish" else settings.visual) for name in ("rgb", "flow", "vggish")}
    with publishing(directory) as work:
        features = work / "av_features"
        features.mkdir()
        for clip, video in taken.items():
            rows = rows_of(video["duration"])
            shown, heard = shown_and_heard(video["annotations"], rows, classes, rng)
            for name, mean in means.items():
                values = rng.standard_normal((rows, mean.shape[1]), np.float32) + (heard if name == "vggish" else shown) @ mean
                np.save(features / f"{clip}_{name}.npy", values.astype(settings.dtype))
        (features / f"{MADE_BY}.txt").write_text("python -m pipeline make-features\n", encoding="utf-8")
        (work / FILE).write_text(json.dumps({"version": "unav100", "database": taken}), encoding="utf-8")
    size = sum(path.stat().st_size for path in (directory / "av_features").iterdir()) / 2**30
    return (
        f"{len(taken)} videos in {directory / 'av_features'}: {size:.2f} GiB of made numbers, not the published features\n"
        f"to use them, set in params.yaml: dataset.annotations: {directory / FILE}, and as `directory` in `imports`:"
        f" {directory / 'av_features'}"
    )


def thinned(database: dict[str, Any], every: int) -> dict[str, Any]:
    """Take each ``every``-th video of every split, and the first training video of each class that none of these has."""
    splits = {subset: [clip for clip, video in database.items() if video["subset"] == subset] for subset in SPLITS}
    kept = {clip for clips in splits.values() for clip in clips[::every]}
    present = {event["label_id"] for clip in kept for event in database[clip]["annotations"] if database[clip]["subset"] == "train"}
    for clip in (*splits["train"], *database):
        own = {event["label_id"] for event in database[clip]["annotations"]}
        if own - present:
            kept.add(clip)
            present |= own
    return {clip: video for clip, video in database.items() if clip in kept}


def rows_of(seconds: float) -> int:
    """Count the windows that fit into a video, at least one."""
    return max(1, (int(seconds * FRAMES) - STACK) // STEP + 1)


def shown_and_heard(events: list[dict[str, Any]], rows: int, classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw where each class is visible and where audible, (n, C) float32 each."""
    middles = GRID.seconds(np.arange(rows, dtype=float))
    shown = np.zeros((rows, classes), np.float32)
    for event in events:
        start, end = event["segment"]
        shown[(middles >= start) & (middles < end), event["label_id"]] = 1
    heard = shown.copy()
    if rng.random() < MISLED:
        start, end = np.sort(rng.integers(0, rows + 1, 2))
        (shown if rng.random() < 0.5 else heard)[start:end, rng.integers(classes)] = 1
    return shown, heard
