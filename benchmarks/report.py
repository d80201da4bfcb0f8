"""Time the report of a large suite: `python -m stages.report`, including the start of the interpreter.

python -m benchmarks.report [--runs 20] [--seeds 5] [--clips 400] [--classes 28] [--epochs 200] [--directory DIR]

Writes a scratch project with runs as `evaluate` stores them (random scores around the true labels, through the task's own functions), an
index and playable clips, and runs the stage there once with nothing cached. Goal: under 60 s on 2 cores at the defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML

from pipeline.datasets.base import Event, Index, Row
from pipeline.datasets.writing import write_index
from pipeline.media.movie import write_clip
from pipeline.tasks import avel
from pipeline.tasks.avel import Scores

REPOSITORY = Path(__file__).resolve().parents[1]
SEGMENTS = 10
FILES = 24  # different films, shared by the clips in turn


def write_films(directory: Path) -> list[str]:
    """Write ten-second films of 128 x 128 pixels, like the demo's."""
    directory.mkdir(parents=True)
    generator = np.random.default_rng(0)
    sound = (0.1 * generator.standard_normal(160_000)).astype(np.float32)
    for number in range(FILES):
        coarse = generator.integers(0, 256, (80, 16, 16, 3), np.uint8)
        write_clip(directory / f"film{number}.mp4", coarse.repeat(8, axis=1).repeat(8, axis=2), 8, sound, 16_000)
    return [f"films/film{number}.mp4" for number in range(FILES)]


def spans(clips: int, classes: int) -> list[list[tuple[int, float, float]]]:
    """One event in each clip."""
    generator = np.random.default_rng(1)
    onsets = generator.integers(0, 6, clips)
    return [[(clip % classes, float(onset), float(generator.integers(onset + 2, 11)))] for clip, onset in enumerate(onsets)]


def write_run(directory: Path, events: list, classes: int, seeds: int, epochs: int, skill: float) -> None:
    """Write predictions.parquet, metrics.json and curves.csv of one run as `evaluate` does."""
    directory.mkdir(parents=True)
    truth = avel.targets_of_events(events, SEGMENTS, classes)
    mask = torch.ones(len(events), SEGMENTS, dtype=torch.bool)
    tables, metrics = [], {}
    for seed in range(seeds):
        torch.manual_seed(round(1000 * skill) + seed)
        logits = torch.randn(len(events), SEGMENTS, classes + 1) + skill * torch.nn.functional.one_hot(truth.segments, classes + 1)
        scores = Scores(segments=logits.softmax(dim=-1))
        decided = avel.decide(scores, mask)
        metrics[str(seed)] = avel.score(decided, truth, mask, classes, 1.0)
        rows = np.repeat(np.arange(len(events)), SEGMENTS)
        tables.append(
            avel.table(scores, decided, truth, mask).assign(seed=seed, split="test", clip=[f"clip{row}" for row in rows], row=rows)
        )
    pd.concat(tables, ignore_index=True).to_parquet(directory / "predictions.parquet", index=False)
    document = {
        "task": "avel", "method": "avel", "features": "lite0_logmel", "headline": avel.HEADLINE, "parameters": 1_005_209, "weights": {},
        "clips": {"test": {"evaluated": len(events), "without features": []}}, "seeds": {"val": {}, "test": metrics},
    }  # fmt: skip
    (directory / "metrics.json").write_text(json.dumps(document), encoding="utf-8")
    (directory / "features.json").write_text(
        json.dumps({"segment_seconds": 1.0, "shapes": {"visual": [512]}, "encoders": {}}), encoding="utf-8"
    )
    epoch = np.tile(np.arange(epochs), seeds)
    curves = {
        "seed": np.repeat(np.arange(seeds), epochs),
        "epoch": epoch,
        "train/total": 1 / (1 + epoch),
        "val/accuracy": 80 - 60 / (1 + epoch),
    }
    pd.DataFrame(curves).to_csv(directory / "curves.csv", index=False)


def write_project(root: Path, arguments: argparse.Namespace) -> None:
    films = write_films(root / "films")
    events = spans(arguments.clips, arguments.classes)
    names = [f"class {label}" for label in range(arguments.classes)]
    rows = [
        Row(f"clip{n}", "test", films[n % FILES], tuple(Event("av", names[label], onset, offset) for label, onset, offset in of_clip))
        for n, of_clip in enumerate(events)
    ]
    (root / "data/index").mkdir(parents=True)
    cwd = Path.cwd()
    os.chdir(root)  # the index holds paths relative to the working directory of the stages
    write_index(Index(rows, names), Path("data/index"))
    os.chdir(cwd)
    runs = {f"run{n:02d}": {"task": "avel", "method": "avel", "features": "lite0_logmel", "seeds": list(range(arguments.seeds))}
            for n in range(arguments.runs)}  # fmt: skip
    for number, name in enumerate(runs):
        write_run(root / "data/results/runs" / name, events, arguments.classes, arguments.seeds, arguments.epochs, 3 + 0.1 * number)
    yaml = YAML(typ="safe")
    with open(REPOSITORY / "suites" / "demo.yaml", encoding="utf-8") as stream:
        params = yaml.load(stream)
    papers = dict.fromkeys(runs, "avel/AVE supervised")
    params |= {"runs": runs, "report": {"title": "Benchmark", "baseline": "run00", "papers": papers}}
    with open(root / "params.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 20), ("seeds", 5), ("clips", 400), ("classes", 28), ("epochs", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--directory", type=Path, help="keep the scratch project here; by default it is removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.directory or Path(scratch) / "project"
        write_project(root, arguments)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "AVEL_CACHE": str(Path(scratch) / "cache")}

        def stage(name: str) -> None:
            subprocess.run([sys.executable, "-m", f"stages.{name}"], cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)

        stage("decode")
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        stage("report")
        wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        page = (root / "data/results/report/index.html").stat().st_size / 1e6
        print(
            f"report of {arguments.runs} runs x {arguments.seeds} seeds x {arguments.clips} clips: {wall:.1f} s wall,"
            f" {cpu:.1f} s CPU, peak {used.ru_maxrss / 1024:.0f} MiB, page {page:.1f} MB"
            f" ({platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})"
        )


if __name__ == "__main__":
    main()
