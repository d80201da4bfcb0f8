"""AVE-shaped features with AVE's real labels: files of the published names, keys and shapes, for trying and timing what reads them.

python -m benchmarks.ave_shaped OUT [--annotations DIRECTORY] [--every 1] [--positions 7] [--visual 512] [--audio 128] [--dtype float32]

Writes into OUT/features: visual_feature.h5 (N, 10, 7, 7, 512), audio_feature.h5 (N, 10, 128), both in the order of Annotations.txt, their
*_noisy.h5 with 178 clips without an event, visual_feature_vec.h5 (N, 10, 512), the mean over positions; and OUT/annotations: text, splits,
orders and labels of the rows taken. --every K takes each K-th row of every split: a small data set of the same make.

The numbers are no pictures and no sounds. In an event segment the class's mean vector is added to a patch of the map and to the sound's
vector, in a third of the other segments to one of the two alone (so that one modality misleads); over it lies noise, and all is cut at 0
like the published features. What a method scores here says that its path works, nothing of the method.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.base import NO_CLIPS, Row
from pipeline.datasets.segments import occupied

SEGMENTS, NEGATIVES = 10, 178
REAL = Path(__file__).resolve().parents[2] / "shared" / "annotations" / "ave"
STRENGTH, PATCH, MISLED = 1.5, 3, 1 / 3


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.ave_shaped", description=__doc__.splitlines()[0])
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--annotations", type=Path, default=REAL)
    arguments.add_argument("--every", type=int, default=1)
    arguments.add_argument("--positions", type=int, default=7)
    arguments.add_argument("--visual", type=int, default=512)
    arguments.add_argument("--audio", type=int, default=128)
    arguments.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="published: float64")
    arguments.add_argument("--seed", type=int, default=0)
    options = vars(arguments.parse_args())
    out = options.pop("out")
    rows = write(out, **options)
    print(f"{rows} rows in {out}: {sum(path.stat().st_size for path in out.rglob('*.h5')) / 2**30:.2f} GiB")


def write(out: Path, annotations: Path, every: int, positions: int, visual: int, audio: int, dtype: str, seed: int) -> int:
    """Everything of the module's docstring; returns N."""
    features = out / "features"
    features.mkdir(parents=True, exist_ok=True)
    settings = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=annotations, segments=SEGMENTS, segment_seconds=1.0)
    if not NO_CLIPS.is_dir():
        raise SystemExit("run this in the root of the repository")
    index = build_index(settings)
    kept = thin(index.rows, every)
    rows = [index.rows[position] for position in kept]
    write_annotations(out / "annotations", rows, index.classes)
    if (annotations / "test_order_match.h5").is_file():
        matched = build_index(settings.model_copy(update={"split": "match"})).rows
        write_orders(out / "annotations", "_match", [matched[position] for position in kept])
    truth = np.stack([occupied(row.events, index.classes, "av", SEGMENTS).T for row in rows])
    rng = np.random.default_rng(seed)
    means = {"visual": directions(rng, len(index.classes), visual), "audio": directions(rng, len(index.classes), audio)}
    write_features(features, "", truth, weak_classes(rows, index.classes), means, positions, dtype, rng)
    nothing = np.zeros((NEGATIVES, SEGMENTS, len(index.classes)), dtype=bool)
    write_features(features, "_noisy", nothing, np.full(NEGATIVES, -1), means, positions, dtype, rng)
    return len(rows)


def thin(rows: list[Row], every: int) -> list[int]:
    """Each ``every``-th row of every split, by its number, in the order of the annotations."""
    kept = [[number for number, row in enumerate(rows) if row.split == split][::every] for split in ("train", "val", "test")]
    return sorted(number for of_split in kept for number in of_split)


def weak_classes(rows: list[Row], classes: list[str]) -> np.ndarray:
    return np.array([classes.index(row.clip_labels[0]) for row in rows])


def directions(rng: np.random.Generator, classes: int, width: int) -> np.ndarray:
    """(C, width) class means, an eighth of their numbers on."""
    return STRENGTH * (rng.random((classes, width)) < 1 / 8).astype(np.float32)


def write_features(
    out: Path, suffix: str, truth: np.ndarray, main_class: np.ndarray, means: dict[str, np.ndarray], positions: int, dtype: str,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """``truth`` (N, T, C) and the class of each clip (-1: none) -> the files of one set, row by row."""
    count, width = len(truth), means["visual"].shape[1]
    names = {"visual_feature": (positions, positions, width), "audio_feature": means["audio"].shape[1:]}
    names |= {} if suffix else {"visual_feature_vec": (width,)}
    files = {name: h5py.File(out / f"{name}{suffix}.h5", "w") for name in names}
    arrays = {name: files[name].create_dataset("avadataset", (count, SEGMENTS, *shape), dtype) for name, shape in names.items()}
    for row in range(count):
        visible, audible = audible_and_visible(truth[row].any(axis=1), main_class[row], rng)
        maps = visual_map(means["visual"][main_class[row]], visible, positions, rng)
        arrays["visual_feature"][row] = maps
        sound = rng.standard_normal((SEGMENTS, means["audio"].shape[1]), np.float32) + audible[:, None] * means["audio"][main_class[row]]
        arrays["audio_feature"][row] = np.maximum(sound, 0)
        if not suffix:
            arrays["visual_feature_vec"][row] = maps.mean(axis=(1, 2))
    for file in files.values():
        file.close()


def audible_and_visible(event: np.ndarray, main_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(T,) bool twice: both where the event is, one of the two in a third of the other segments."""
    alone = ~event & (rng.random(len(event)) < MISLED) & (main_class >= 0)
    which = rng.random(len(event)) < 0.5
    return event | (alone & which), event | (alone & ~which)


def visual_map(mean: np.ndarray, visible: np.ndarray, positions: int, rng: np.random.Generator) -> np.ndarray:
    """(T, h, w, D): noise, and the class's mean on a patch that stays where it is through the clip."""
    maps = rng.standard_normal((len(visible), positions, positions, len(mean)), np.float32)
    top, left = rng.integers(0, max(1, positions - PATCH + 1), 2)
    maps[visible, top : top + PATCH, left : left + PATCH] += mean
    return np.maximum(maps, 0, out=maps)


def write_annotations(directory: Path, rows: list[Row], classes: list[str]) -> None:
    """Text, splits, orders and labels as AVE's authors publish them."""
    directory.mkdir(exist_ok=True)
    lines = []
    for row in rows:
        onset, offset = (row.events[0].onset, row.events[0].offset) if row.events else (0, 0)
        lines.append(f"{row.clip_labels[0]}&{row.clip}&good&{onset:g}&{offset:g}\n")
    (directory / "Annotations.txt").write_text("".join(lines), encoding="utf-8")
    (directory / "categories.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    for split in ("train", "val", "test"):
        order = [position for position, row in enumerate(rows) if row.split == split]
        (directory / f"{split}Set.txt").write_text("".join(lines[position] for position in order), encoding="utf-8")
    write_orders(directory, "", rows)
    weak = np.eye(len(classes) + 1, dtype=np.float32)[weak_classes(rows, classes)]
    write_h5(directory / "mil_labels.h5", weak)
    event = np.stack([occupied(row.events, classes, "av", SEGMENTS).any(axis=0) for row in rows])
    write_h5(directory / "labels_closs.h5", event.astype(np.float32))
    write_h5(directory / "labels_noisy.h5", np.eye(len(classes) + 1, dtype=np.float32)[[len(classes)] * NEGATIVES])


def write_orders(directory: Path, suffix: str, rows: list[Row]) -> None:
    for split in ("train", "val", "test"):
        order = [position for position, row in enumerate(rows) if row.split == split]
        write_h5(directory / f"{split}_order{suffix}.h5", np.array(order, np.int64), "order")


def write_h5(path: Path, values: np.ndarray, key: str = "avadataset") -> None:
    with h5py.File(path, "w") as file:
        file[key] = values


if __name__ == "__main__":
    main()
