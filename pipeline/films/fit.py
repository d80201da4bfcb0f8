"""Fit a suite to films: window, splits, batch size, epochs and the encoder of sound that is at hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.base import Event
from pipeline.encoders.known_weights import KNOWN
from pipeline.media.windowing import Windowing

LONGEST_WINDOW = 10.0  # seconds, as in AVE
SHORT_EVENTS = 1.0  # seconds; a quarter of the events shorter than this asks for segments of half a second
STEPS = 360  # of the optimizer, as the demo takes
FEWEST_EPOCHS, MOST_EPOCHS = 24, 60
LARGEST_BATCH = 16


@dataclass(frozen=True)
class Fit:
    """What follows from the films.

    clips: windows of training films.
    """

    windowing: Windowing
    windows: str
    clips: int
    batch_size: int
    epochs: int


def fit_windows(lengths: Iterable[float], events: Iterable[Event]) -> tuple[Windowing, str]:
    """Choose a window no longer than the longest film, and ``dataset.windows``: ``all`` where films are longer."""
    longest = max(lengths, default=LONGEST_WINDOW)
    durations = [event.offset - event.onset for event in events]
    segment_seconds = 0.5 if durations and np.quantile(durations, 0.25) < SHORT_EVENTS else 1.0
    seconds = min(LONGEST_WINDOW, longest)
    windowing = Windowing(max(2, math.ceil(seconds / segment_seconds - 0.5)), segment_seconds)
    return windowing, "all" if windowing.windows(longest) > 1 else "first"


def fit(windowing: Windowing, windows: str, training: Iterable[float]) -> Fit:
    """Choose batch size and epochs for the training films' lengths: about as many steps as the demo takes."""
    clips = sum(windowing.windows(seconds) if windows == "all" else 1 for seconds in training)
    batch_size = min(LARGEST_BATCH, max(2, clips // 8))
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(STEPS / max(1, math.ceil(clips / batch_size)))))
    return Fit(windowing, windows, clips, batch_size, epochs)


def fitted(suite: Any, chosen: Fit, clips: Path, annotations: Path, title: str, cores: int, yamnet: Path | None) -> None:
    """Write what was chosen into a suite as ruamel.yaml read it, comments kept."""
    dataset = suite["dataset"]
    dataset["clips"], dataset["annotations"] = str(clips), str(annotations)
    dataset["segments"], dataset["segment_seconds"] = chosen.windowing.segments, chosen.windowing.segment_seconds
    dataset["windows"] = chosen.windows
    suite["media"]["workers"] = cores
    suite["report"]["title"] = title
    for method in suite["methods"].values():
        method["recipe"] |= {
            "batch_size": chosen.batch_size, "epochs": chosen.epochs, "milestones": [round(chosen.epochs * 2 / 3)],
        }  # fmt: skip
    if suite["runs"]:
        suite["machine"]["seeds_at_once"] = min(3, cores)
    if yamnet is not None:
        _hear_with_yamnet(suite, yamnet)


def _hear_with_yamnet(suite: Any, weights: Path) -> None:
    """Take YAMNet in place of log-mel statistics, and name the feature sets after it."""
    for name in list(suite["features"]):
        entry, renamed = suite["features"][name], name.replace("logmel", "yamnet")
        entry["audio"] = {"encoder": "yamnet", "weights": str(weights)}
        if renamed != name:
            suite["features"].insert(list(suite["features"]).index(name), renamed, suite["features"].pop(name))
        for run in suite["runs"].values():
            run["features"] = renamed if run["features"] == name else run["features"]


def yamnet_weights(pretrained: Path) -> Path | None:
    """YAMNet's weights in a folder of weights; None where they are not there."""
    path = pretrained / KNOWN["yamnet"].file
    return path.resolve() if path.is_file() else None


def learnable(splits: Mapping[str, str], classes: Iterable[str]) -> str | None:
    """Why no run can be trained on these films; None if runs can be trained."""
    lacking = [split for split in ("train", "val", "test") if split not in splits.values()]
    if not any(True for _ in classes):
        return "there is no labelled event"
    return f"no labelled film is in the split {' and '.join(lacking)}" if lacking else None
