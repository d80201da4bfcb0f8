"""A small project for every stage and each of its outs, run in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from ruamel.yaml import YAML
from tiny_project import FEATURES, NARROW, TINY

from pipeline import stage
from stages import decode, evaluate, extract, finetune, import_features, index, report, synthesize, train

# small, so that the disk can be: its checkpoints are files, too
EYE = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 64, "resize": 64}
FINETUNE = {"visual": EYE, "audio": {"encoder": "logmel"}, "train_last": 1, "width": 8, "epochs": 1, "head_epochs": 1, "batch_size": 4}
PUBLISHED = {"file": "visual.h5", "shape": [32]}
PARAMS = {
    **TINY,
    "media": {**TINY["media"], "keep": "frames"},
    "synth": {"tiny": {"seed": 3, "train_clips": 4, "val_clips": 2, "test_clips": 2, "picture_size": 64}},
    "finetune": {"eye": {**FINETUNE, "batch_norm": "frozen", "device": "cpu", "checkpoint_seconds": 0}},
    "features": {"first": FEATURES},
    "imports": {
        "published": {"directory": "published", "visual": PUBLISHED, "audio": {**PUBLISHED, "file": "audio.h5"}, "dtype": "float32"}
    },
    "methods": {"avel": {"attention_width": 8, "recurrent_width": 8, "classifier_width": 8, "recipe": {**NARROW, "epochs": 2}}},
    "runs": {"run": {"task": "avel", "method": "avel", "features": "first", "seeds": [0], "overrides": {}}},
    "report": {"title": "Tiny", "baseline": None},
    "cache": {"min_free_gb": 0},
}
# stage, its argument, where its outs are
STAGES = [
    (synthesize, "tiny", "data/raw/tiny"),
    (index, None, "data/index"),
    (decode, None, "data/clips"),
    (finetune, "eye", "models/encoders/eye"),
    (extract, "first", "data/features/first"),
    (import_features, "published", "data/features/published"),
    (train, "run", "models/runs/run"),
    (evaluate, "run", "data/results/runs/run"),
    (report, None, "data/results/report"),
]
NAMES = [module.__name__.removeprefix("stages.") for module, _, _ in STAGES]


def run_stage(module, argument, monkeypatch) -> int:
    """Exit code of a stage, run in this process as ``python -m stages.NAME`` runs it."""
    name = module.__name__.removeprefix("stages.")
    monkeypatch.setattr(sys, "argv", [name, *([argument] if argument else [])])
    monkeypatch.setattr(train, "keep_freed_memory", lambda: None)  # this process does more than train
    try:
        stage.run(name, module.main, takes="name" if argument else None)
    except SystemExit as stop:
        return stop.code
    return 0


def bytes_below(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def write_params(params: dict) -> None:
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    with open("params.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def write_published(seed: int) -> None:
    Path("published").mkdir(exist_ok=True)
    for name in ("visual", "audio"):
        with h5py.File(f"published/{name}.h5", "w") as file:
            file["dataset"] = np.random.default_rng(seed).random((8, 10, 32), np.float32)
