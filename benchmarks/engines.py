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
from contextlib import suppress
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


class Watch:
    """Watches this process and its descendants, and the entries of a cache, ten times a second.

    Attributes:
        seen: CPU seconds of every process.
        landed: by kind, the time of each look and the number of entries then.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.seen, self.landed = root, dict[tuple[int, float], float](), {"decoded": list[tuple[float, int]](), "features": []}
        self._over, self._thread = threading.Event(), threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._look()
        self.before = sum(self.seen.values())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self._look()

    def _look(self) -> None:
        this = psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self.seen[process.pid, process.create_time()] = times.user + times.system
        for kind, looks in self.landed.items():
            looks.append((time.monotonic(), sum(1 for _ in self.root.glob(f"{kind}/*/*.npz"))))

    def steady(self, kind: str, first: int) -> float:
        """Seconds from the ``first`` entry of a kind to the last."""
        looks = self.landed[kind]
        return next(at for at, count in looks if count == looks[-1][1]) - next(at for at, count in looks if count >= first)


def both_stages(bench: Bench, ray: bool) -> Took:
    with tempfile.TemporaryDirectory() as root, Watch(Path(root)) as watch:
        cache = Cache(Path(root))
        jobs, began = bench.jobs(cache), time.monotonic()
        decode = RayEngine("local").decode_each if ray else None
        manifest = decode_clips(list(jobs.values()), [], bench.media, decode=decode)
        extraction = Extraction(bench.features(), jobs, cache, bench.workers, partial(RayEngine, "local") if ray else None)
        print(extraction.engine.encode(extraction.plan.clips(manifest), bar=False))
        wall = time.monotonic() - began
        time.sleep(0.2)  # for a last look
        without_start = watch.steady("decoded", FIRST) + watch.steady("features", 2 * FIRST)
    return Took(wall, without_start, sum(watch.seen.values()) - watch.before)


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
