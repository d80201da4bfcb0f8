"""Measure speed and memory of importing published features, against a plain sequential copy of the same bytes.

python -m benchmarks.import [--at DIRECTORY] [--every 1] [--rounds 2]

Writes AVE-shaped files (pipeline.synth.ave_features; 4.2 GB of float32 maps at --every 1), then alternately copies them block by block and
imports them with every check, each in its own process. Two times are taken: until the process ends, and until the bytes are on the disk.
The source is in the page cache for both, as far as memory allows. Everything is deleted at the end. Goal: at least 0.5 of the copy's speed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.base import NO_CLIPS
from pipeline.features.importing import Import, ImportSet
from pipeline.synth.ave_features import SEGMENTS, MadeFeatures, make_features

REAL = Path(__file__).resolve().parents[2] / "shared" / "annotations" / "ave"
BLOCK = 8 * 2**20
FILES = {"visual": ("visual_feature.h5", [7, 7, 512]), "audio": ("audio_feature.h5", [128])}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.import", description=__doc__.splitlines()[0])
    arguments.add_argument("--at", type=Path, default=Path(tempfile.gettempdir()))
    arguments.add_argument("--every", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=2)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=options.at) as folder:
        root = Path(folder)
        made = make_features(root / "published", REAL, MadeFeatures(every=options.every))
        size = sum((root / "published" / "features" / name).stat().st_size for name, _ in FILES.values())
        print(f"{made}; {size / 1e9:.2f} GB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        (root / "index").mkdir()
        settings = DatasetSettings(
            kind="ave", clips=NO_CLIPS, annotations=root / "published" / "annotations", segments=SEGMENTS, segment_seconds=1.0
        )  # fmt: skip
        write_index(build_index(settings), root / "index")
        for _ in range(options.rounds):
            copied, imported = measure(copy, root, settings), measure(run_import, root, settings)
            for name, (ended, synced, memory) in {"copy": copied, "import": imported}.items():
                print(f"{name:7} {ended:6.1f} s ({size / ended / 1e6:5.0f} MB/s), on disk {synced:6.1f} s; peak {memory / 2**20:.2f} GiB")
            print(f"import against copy: {copied[0] / imported[0]:.2f} until it ends, {copied[1] / imported[1]:.2f} until on disk")


def measure(job: Callable[[Path, DatasetSettings], None], root: Path, settings: DatasetSettings) -> tuple[float, float, int]:
    """Run a job and delete its output.

    Returns:
        (seconds until the job ends, seconds until its bytes are on the disk, peak resident set in KiB).
    """
    os.sync()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_timed, args=(job, root, settings, sender))
    child.start()
    ended, synced, memory = receiver.recv()
    child.join()
    shutil.rmtree(root / "out")
    return ended, synced, memory


def _timed(job: Callable[[Path, DatasetSettings], None], root: Path, settings: DatasetSettings, sender) -> None:
    (root / "out").mkdir()
    start = time.perf_counter()
    job(root, settings)
    ended = time.perf_counter() - start
    os.sync()
    sender.send((ended, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def copy(root: Path, settings: DatasetSettings) -> None:
    """Copy the same bytes in blocks of 8 MiB."""
    block = bytearray(BLOCK)
    for name, _ in FILES.values():
        origin = root / "published" / "features" / name
        with open(origin, "rb", buffering=0) as source, open(root / "out" / name, "wb", buffering=0) as target:
            while count := source.readinto(block):
                target.write(memoryview(block)[:count])


def run_import(root: Path, settings: DatasetSettings) -> None:
    index: pd.DataFrame = read_index(root / "index")[0]
    sources = {name: {"file": file, "shape": shape} for name, (file, shape) in FILES.items()}
    importing = Import(ImportSet.model_validate({"directory": root / "published" / "features", **sources}), settings, index)
    importing.check()
    importing.fingerprint()
    print(importing.run(root / "out").splitlines()[0])


if __name__ == "__main__":
    main()
