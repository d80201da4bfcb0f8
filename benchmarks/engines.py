"""Compare the Ray engine with the local one on this machine: the same clips, in turn, each time into a fresh cache.

python -m benchmarks.engines [--clips DIRECTORY] [--count 64] [--encoder efficientnet_lite0] [--rounds 2]

Every round decodes, then encodes, with one engine and then with the other. Two wall times are printed: all of it, and without the start,
which is the time from the 8th clip in the cache to the last, of both stages. CPU seconds are those of the process and all its descendants;
they count the start: of a Ray cluster, and of a process with torch for each core.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import torch

from benchmarks.extraction import Bench, find_clips
from pipeline.cache import Cache
from pipeline.features.engines.ray import RayEngine
from pipeline.features.extraction import Extraction
from pipeline.media.decoding import decode_clips
from pipeline.media.settings import MediaSettings

FIRST = 8  # clips that belong to the start


@dataclass(frozen=True)
class Took:
    """Seconds of decoding and encoding all clips."""

    wall: float
    steady: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:7.1f} s in all   {self.steady:7.1f} s without the start   {self.cpu:7.1f} CPU s"


@contextmanager
def cpu_seconds() -> Iterator[list[float]]:
    """Measure the CPU seconds of this process and its descendants in the block, looked at ten times a second."""
    seen: dict[tuple[int, float], float] = {}
    over, result, this = threading.Event(), list[float](), psutil.Process()

    def look() -> None:
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                seen[process.pid, process.create_time()] = times.user + times.system

    look()
    before = sum(seen.values())

    def watch() -> None:
        while not over.wait(0.1):
            look()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield result
    finally:
        over.set()
        watching.join()
        look()
        result.append(sum(seen.values()) - before)


def steady(root: Path, kind: str, first: int) -> float:
    """Seconds from the ``first`` entry of a kind to the last."""
    times = sorted(path.stat().st_mtime for path in root.glob(f"{kind}/*/*.npz"))
    return times[-1] - times[first - 1]


def both_stages(bench: Bench, ray: bool) -> Took:
    with tempfile.TemporaryDirectory() as root, cpu_seconds() as cpu:
        cache = Cache(root)
        jobs, began = bench.jobs(cache), time.monotonic()
        decode = RayEngine("local").decode_each if ray else None
        manifest = decode_clips(list(jobs.values()), [], bench.media, decode=decode)
        extraction = Extraction(bench.features(), jobs, cache, bench.workers, partial(RayEngine, "local") if ray else None)
        print(extraction.engine.encode(extraction.plan.clips(manifest), bar=False))
        wall = time.monotonic() - began
        without_start = steady(Path(root), "decoded", FIRST) + steady(Path(root), "features", 2 * FIRST)
    return Took(wall, without_start, cpu[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.count <= FIRST:
        parser.error(f"--count must be above {FIRST}")
    workers = len(os.sched_getaffinity(0))
    torch.set_num_threads(workers)
    print(f"{platform.machine()}, {workers} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as scratch:
        files = find_clips(arguments.clips, arguments.count, Path(scratch))
        bench = Bench(files, arguments.encoder, MediaSettings(workers=workers), "cpu", workers)
        for _ in range(arguments.rounds):
            local, ray = (both_stages(bench, engine) for engine in (False, True))
            print(
                f"local {local}\nray   {ray}\n{len(files)} clips, ray / local without the start: {ray.steady / local.steady:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
