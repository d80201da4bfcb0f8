"""Write made features for AVE's real labels, under the published names, keys and shapes, to try and time their readers.

The numbers come from no picture or sound. In an event segment the class's mean vector is added to a patch of the map and to the audio
vector, in a third of the other segments to one of the two alone (so that one modality misleads); noise is added, and all is cut at 0
like the published features. A method's score on them shows that its code works, and nothing about the method.

Shape letters: N annotation rows, T segments, C classes, h x w positions, D feature width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from pydantic import Field

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.arrays import MADE_BY
from pipeline.datasets.base import NO_CLIPS, Row
from pipeline.datasets.segments import occupied
from pipeline.errors import PipelineError
from pipeline.publish import publishing
from pipeline.settings import Seed, Settings

SEGMENTS, NEGATIVES = 10, 178
STRENGTH, PATCH, MISLED = 1.5, 3, 1 / 3
SPLITS = ("train", "val", "test")


class MadeFeatures(Settings):
    """Size and type of the made features; the defaults are the published shapes."""

    every: int = Field(1, ge=1, description="take each n-th row of every split, for a small data set of the same make")
    positions: int = Field(7, ge=1, le=64, description="height and width of the visual map")
    visual: int = Field(512, ge=1, le=65_536, description="width of a visual vector")
    audio: int = Field(128, ge=1, le=65_536, description="width of an audio vector")
    dtype: Literal["float32", "float64"] = Field("float32", description="of the files; the published ones are float64")
    seed: Seed = 0


def make_features(directory: Path, annotations: Path, settings: MadeFeatures) -> str:
    """Write ``directory/features`` and ``directory/annotations``, and return what to set to use them; nothing is overwritten.

    features: ``visual_feature.h5`` (N, 10, h, w, D), ``audio_feature.h5`` (N, 10, D), both in the order of Annotations.txt, their
    ``*_noisy.h5`` with 178 clips without an event, and ``visual_feature_vec.h5`` (N, 10, D), the mean over positions.
    annotations: text, splits, orders and labels of the rows taken.

    Raises:
        PipelineError: ``directory`` holds anything, or this is not the root of the repository.
        InputProblems: the annotations cannot be read.
    """
    if not NO_CLIPS.is_dir():
        raise PipelineError(f"there is no {NO_CLIPS} here; run this in the root of the repository")
    refuse_files_in(directory)
    dataset = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=annotations, segments=SEGMENTS, segment_seconds=1.0)
    index = build_index(dataset)
    kept = thin(index.rows, settings.every)
    rows = [index.rows[position] for position in kept]
    truth = np.stack([occupied(row.events, index.classes, "av", SEGMENTS).T for row in rows])
    rng = np.random.default_rng(settings.seed)
    means = {"visual": directions(rng, len(index.classes), settings.visual), "audio": directions(rng, len(index.classes), settings.audio)}
    nothing = np.zeros((NEGATIVES, SEGMENTS, len(index.classes)), dtype=bool)
    with publishing(directory) as work:
        features, copies = work / "features", work / "annotations"
        features.mkdir()
        copies.mkdir()
        write_features(features, "", truth, weak_classes(rows, index.classes), means, settings, rng)
        write_features(features, "_noisy", nothing, np.full(NEGATIVES, -1), means, settings, rng)
        write_annotations(copies, rows, index.classes)
        if (annotations / "test_order_match.h5").is_file():
            matched = build_index(dataset.model_copy(update={"split": "match"})).rows
            write_orders(copies, "_match", [matched[position] for position in kept])
    size = sum(path.stat().st_size for path in (directory / "features").iterdir()) / 2**30
    return (
        f"{len(rows)} rows in {directory / 'features'}: {size:.2f} GiB of made numbers, not the published features\n"
        f"to use them, set in params.yaml: dataset.annotations: {directory / 'annotations'}, and as `directory` in `imports`:"
        f" {directory / 'features'}"
    )


def refuse_files_in(directory: Path) -> None:
    """Refuse a directory that is not new or empty.

    Raises:
        PipelineError: ``directory`` holds anything, or is no directory of its own.
    """
    if directory.is_symlink() or (directory.exists() and not (directory.is_dir() and not any(directory.iterdir()))):
        raise PipelineError(
            f"{directory} is not empty, and nothing in it is overwritten; name a new directory, or remove this one if you do not need it"
        )


def thin(rows: list[Row], every: int) -> list[int]:
    """Numbers of each ``every``-th row of every split, in the order of the annotations."""
    kept = [[number for number, row in enumerate(rows) if row.split == split][::every] for split in SPLITS]
    return sorted(number for of_split in kept for number in of_split)


def weak_classes(rows: list[Row], classes: list[str]) -> np.ndarray:
    """Class of each row, (N,)."""
    return np.array([classes.index(row.clip_labels[0]) for row in rows])


def directions(rng: np.random.Generator, classes: int, width: int) -> np.ndarray:
    """Draw class means (C, D), an eighth of their numbers not zero."""
    return STRENGTH * (rng.random((classes, width)) < 1 / 8).astype(np.float32)


def write_features(
    out: Path, suffix: str, truth: np.ndarray, main_class: np.ndarray, means: Mapping[str, np.ndarray], settings: MadeFeatures,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Write the files of one set, row by row, from ``truth`` (N, T, C) and each clip's class (-1: none)."""
    count, width, audio_width = len(truth), settings.visual, settings.audio
    names: dict[str, tuple[int, ...]] = {
        "visual_feature": (settings.positions, settings.positions, width),
        "audio_feature": (audio_width,),
    }
    names |= {} if suffix else {"visual_feature_vec": (width,)}
    files = {name: _create(out / f"{name}{suffix}.h5") for name in names}
    arrays = {name: files[name].create_dataset("avadataset", (count, SEGMENTS, *shape), settings.dtype) for name, shape in names.items()}
    for row in range(count):
        visible, audible = visible_and_audible(truth[row].any(axis=1), main_class[row], rng)
        maps = visual_map(means["visual"][main_class[row]], visible, settings.positions, rng)
        arrays["visual_feature"][row] = maps
        vectors = rng.standard_normal((SEGMENTS, audio_width), np.float32) + audible[:, None] * means["audio"][main_class[row]]
        arrays["audio_feature"][row] = np.maximum(vectors, 0)
        if not suffix:
            arrays["visual_feature_vec"][row] = maps.mean(axis=(1, 2))
    for file in files.values():
        file.close()


def visible_and_audible(event: np.ndarray, main_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two (T,) bool masks: both true in the event, one of them in a third of the other segments."""
    alone = ~event & (rng.random(len(event)) < MISLED) & (main_class >= 0)
    which = rng.random(len(event)) < 0.5
    return event | (alone & which), event | (alone & ~which)


def visual_map(mean: np.ndarray, visible: np.ndarray, positions: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a map (T, h, w, D): noise, and the class's mean on one patch throughout the clip."""
    maps = rng.standard_normal((len(visible), positions, positions, len(mean)), np.float32)
    top, left = rng.integers(0, max(1, positions - PATCH + 1), 2)
    maps[visible, top : top + PATCH, left : left + PATCH] += mean
    return np.maximum(maps, 0, out=maps)


def write_annotations(directory: Path, rows: list[Row], classes: list[str]) -> None:
    """Write text, splits, orders and labels as AVE's authors publish them."""
    lines = []
    for row in rows:
        onset, offset = (row.events[0].onset, row.events[0].offset) if row.events else (0, 0)
        lines.append(f"{row.clip_labels[0]}&{row.clip}&good&{onset:g}&{offset:g}\n")
    (directory / "Annotations.txt").write_text("".join(lines), encoding="utf-8")
    (directory / "categories.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    for split in SPLITS:
        order = [position for position, row in enumerate(rows) if row.split == split]
        (directory / f"{split}Set.txt").write_text("".join(lines[position] for position in order), encoding="utf-8")
    write_orders(directory, "", rows)
    weak = np.eye(len(classes) + 1, dtype=np.float32)[weak_classes(rows, classes)]
    write_array(directory / "mil_labels.h5", weak)
    event = np.stack([occupied(row.events, classes, "av", SEGMENTS).any(axis=0) for row in rows])
    write_array(directory / "labels_closs.h5", event.astype(np.float32))
    write_array(directory / "labels_noisy.h5", np.eye(len(classes) + 1, dtype=np.float32)[[len(classes)] * NEGATIVES])


def write_orders(directory: Path, suffix: str, rows: list[Row]) -> None:
    """Write ``{train,val,test}_order<suffix>.h5``, the numbers of each split's rows."""
    for split in SPLITS:
        order = [position for position, row in enumerate(rows) if row.split == split]
        write_array(directory / f"{split}_order{suffix}.h5", np.array(order, np.int64), "order")


def write_array(path: Path, values: np.ndarray, key: str = "avadataset") -> None:
    """Write one array as the authors do."""
    with _create(path) as file:
        file[key] = values


def _create(path: Path) -> h5py.File:
    file = h5py.File(path, "w")
    file.attrs[MADE_BY] = "python -m pipeline make-features"
    return file
