"""Stores of a few clips, with features and with teachers' outputs, and their annotation rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.features.store import Entry, FeatureStore, write_store
from pipeline.labels.texts import TextTable, write_texts

CLASSES = ["Dog", "Cat", "Car"]
NAMES = ["Bark", "Meow", "Engine", "Silence"]
LENGTHS = {"a": 4, "b": 4, "c": 2, "d": 4, "e": 4}  # valid segments of each clip
TOLD = {"a": ["Dog"], "b": ["Dog", "Cat"], "c": ["Car"], "d": ["Cat", "Dog"], "e": ["Dog", "Car"]}
SPLITS = {"a": "train", "b": "val", "c": "val", "d": "val", "e": "test"}
SEGMENTS = 4


def event(modality, label, onset, offset) -> dict:
    return {"modality": modality, "label": label, "onset": float(onset), "offset": float(offset)}


EVENTS = {
    "a": [],
    "b": [event("audio", "Dog", 0, 2), event("visual", "Cat", 1, 4)],
    "c": [event("av", "Car", 0, 1)],
    "d": [event("audio", "Cat", 2, 4), event("visual", "Dog", 0, 4)],
    "e": [event("audio", "Dog", 1, 3), event("av", "Car", 3, 4)],
}


def written(directory: Path, shapes: dict[str, list[int]], clips="abcde", shard_bytes: int = 10**9, seed: int = 0, **spec) -> FeatureStore:
    """A store of random numbers in 0..1."""
    rng = np.random.default_rng(seed)
    entries = [
        Entry(
            {"clip": clip, "status": "ok", **dict.fromkeys(("valid", "visual_valid", "audio_valid"), valid(clip))}
            | {f"{modality}_key": f"{modality}{clip}" for modality in ("visual", "audio")},
            {modality: rng.random((SEGMENTS, *shapes[modality])).astype(np.float32) for modality in ("visual", "audio")},
        )
        for clip in clips
    ]
    directory.mkdir(parents=True)
    facts = {"segments": SEGMENTS, "segment_seconds": 1.0, "dtype": "float32", "shapes": shapes, "encoders": {}, **spec}
    write_store(directory, iter(entries), len(entries), facts, shard_bytes)
    return FeatureStore(directory)


def valid(clip: str) -> list[bool]:
    return [segment < LENGTHS[clip] for segment in range(SEGMENTS)]


def rows() -> pd.DataFrame:
    columns = {"clip": list(TOLD), "row": range(len(TOLD)), "split": list(SPLITS.values()), "labels": list(TOLD.values())}
    return pd.DataFrame({**columns, "events": list(EVENTS.values())})


@pytest.fixture
def stores(tmp_path) -> SimpleNamespace:
    """``features`` in shards of two clips; ``teachers``: 5-d pictures for texts, probabilities of four classes for sound."""
    features = written(tmp_path / "features", {"visual": [3], "audio": [2]}, shard_bytes=2 * SEGMENTS * 3 * 4)
    weights = {modality: {"weights": {"weights": f"{modality}0123456789"}} for modality in ("visual", "audio")}
    teachers = written(tmp_path / "teachers", {"visual": [5], "audio": [4]}, seed=1, encoders=weights)
    (tmp_path / "names.csv").write_text("index,display_name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(NAMES)), encoding="utf-8")
    return SimpleNamespace(features=features, teachers=teachers, root=tmp_path)


def text_table(classes=CLASSES, width: int = 5, **changes) -> TextTable:
    rng = np.random.default_rng(5)
    facts = {"prompts": tuple(f"a {label}" for label in classes), "scale": 10.0, "model": "tiny", "weights": "f" * 64, **changes}
    return TextTable(rng.normal(size=(len(classes), width)).astype(np.float32), tuple(classes), **facts)


@pytest.fixture
def texts(tmp_path) -> Path:
    write_texts(tmp_path / "texts.npz", text_table())
    return tmp_path / "texts.npz"
