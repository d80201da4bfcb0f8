"""Run a whole suite without DVC, stage by stage on a card, and print its table; entries of a stage run side by side.

python -m benchmarks.gpu.demo [--suite suites/demo.yaml] [--device cuda] [--jobs 8] [--at DIRECTORY] [--set media.workers=16 ...]

The stages and their entries are read from dvc.yaml, and run as `python -m stages.NAME ENTRY` in a new folder with the suite as its
params.yaml. A stage that fails ends the run, with its output. Each stage's seconds are printed, and the last table last.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.yaml_files import read_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = ("data/none", "data/results/runs", "models/encoders/none", "models/pretrained")  # folders that a clone has


def stages(dag: dict[str, Any], params: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each stage of dvc.yaml, in the order of its file, with its entries in params.yaml ("" for a stage without entries)."""
    for name, stage in dag["stages"].items():
        yield name, list(params[stage["foreach"][2:-1]]) if "foreach" in stage else [""]


def on_device(params: dict[str, Any], device: str) -> None:
    """Name the device wherever params.yaml has a setting for it."""
    for block in [params["train"], *params["features"].values(), *params["finetune"].values()]:
        block["device"] = device


def override(params: dict[str, Any], assignment: str) -> None:
    """Apply ``block.key=value``; the value is YAML."""
    path, _, text = assignment.partition("=")
    *blocks, key = path.split(".")
    for block in blocks:
        params = params[block]
    params[key] = YAML(typ="safe").load(text)


class Demo:
    """The project's folder, and the environment of its stages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in KEPT:
            shutil.copytree(REPOSITORY / folder, root / folder, dirs_exist_ok=True)
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self.environment = {**os.environ, "PYTHONPATH": path, "AVEL_CACHE": str(root / "cache"), "PYTHONUNBUFFERED": "1"}

    def run(self, stage: str, entry: str) -> tuple[str, float]:
        """Run one entry of a stage; return its output and seconds.

        Raises:
            SystemExit: the stage failed; the message is its output.
        """
        start = time.monotonic()
        command = [sys.executable, "-m", f"stages.{stage}", *([entry] if entry else [])]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
        )
        if done.returncode:
            raise SystemExit(f"{stage} {entry} failed:\n{done.stdout}")
        return done.stdout, time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", type=Path, default=REPOSITORY / "suites" / "demo.yaml")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--jobs", type=int, default=8, help="entries of one stage at a time")
    parser.add_argument("--at", type=Path, help="keep the project here; by default it is removed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the suite, e.g. media.workers=16")
    options = parser.parse_args()
    params, dag = read_yaml(options.suite), read_yaml(REPOSITORY / "dvc.yaml")
    on_device(params, options.device)
    for assignment in options.set:
        override(params, assignment)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="avel-demo-") as scratch:
        demo = Demo(options.at or Path(scratch))
        with open(demo.root / "params.yaml", "w", encoding="utf-8") as stream:
            YAML(typ="safe").dump(params, stream)
        for stage, entries in stages(dag, params):
            began = time.monotonic()
            with ThreadPoolExecutor(options.jobs) as pool:
                done = list(pool.map(lambda entry, stage=stage: demo.run(stage, entry), entries))
            if entries:
                each = ", ".join(f"{entry} {seconds:.0f}" for entry, (_, seconds) in zip(entries, done, strict=True) if entry)
                print(f"{stage}: {time.monotonic() - began:.0f} s{f' ({each})' if each else ''}", flush=True)
            for output, _ in done:
                for line in filter(str.strip, output.splitlines()[-3:]):
                    print(f"  {line}", flush=True)
        print(f"whole: {time.monotonic() - start:.0f} s on {options.device}")
        print((demo.root / "data/results/report/table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
