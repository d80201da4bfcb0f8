"""Compare keeping decoded frames with decoding the clips again for each extraction.

python -m benchmarks.keeping [--clips DIRECTORY] [--count 32] [--encoder efficientnet_lite0] [--frames-per-second 2] [--pairs 3]

Each measurement is a process of its own with a fresh cache, and the two kinds alternate:
    frames      decode and extract with media.keep: frames
    verdicts    extract alone with media.keep: verdicts, which decodes the clips again and stores no frames; the decode before it is not
                counted, as it is paid once however many feature sets there are
CPU seconds include the children that decode. The wanted ratio of the wall times is at most 1.15. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.extraction import Bench, find_clips, prepared
from pipeline.cache import Cache, file_sha256, fingerprint
from pipeline.features.extraction import Extraction
from pipeline.media import guard
from pipeline.media.decoding import decode_clips
from pipeline.media.job import KIND
from pipeline.media.settings import MediaSettings

WANTED = 1.15


def cpu_seconds() -> float:
    """CPU seconds of this process and its children that have ended: those that decode end first."""
    guard._end_idle()
    guard._idle.clear()
    return sum(os.times()[:4])


def one(bench: Bench, root: Path) -> dict[str, float | str]:
    """Measure one kind; the checksum of the store tells whether both kinds wrote the same."""
    cache, keep = Cache(root / "cache"), bench.media.keep
    jobs = bench.jobs(cache)
    extraction = Extraction(bench.features(), jobs, cache, bench.workers)
    prepared(extraction)
    store = root / "store"
    store.mkdir()
    began, before = time.monotonic(), cpu_seconds()
    manifest = decode_clips(list(jobs.values()), [], bench.media)
    if keep == "verdicts":
        began, before = time.monotonic(), cpu_seconds()
    extraction.run(manifest, store)
    wall = time.monotonic() - began
    cpu = cpu_seconds() - before
    stored = sum(path.stat().st_size for path in (cache.root / KIND).rglob("*.npz"))
    return {"wall": wall, "cpu": cpu, "frames": stored, "store": fingerprint([file_sha256(path) for path in sorted(store.iterdir())])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--frames-per-second", type=float, default=2.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--keep", choices=["frames", "verdicts"], help="one measurement, as JSON")
    arguments = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.keep:
            torch.set_num_threads(workers)
            media = MediaSettings(frames_per_second=arguments.frames_per_second, workers=workers, keep=arguments.keep)
            files = find_clips(arguments.clips, arguments.count, Path(scratch) / "world")
            found = one(Bench(files, arguments.encoder, media, "cpu", workers), Path(scratch))
            print(json.dumps(found))
            return
        compare(arguments, workers, find_clips(arguments.clips, arguments.count, Path(scratch))[0].parent)


def compare(arguments: argparse.Namespace, workers: int, clips: Path) -> None:
    print(f"{platform.machine()}, {workers} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    options = ["--clips", clips, "--count", arguments.count, "--encoder", arguments.encoder]
    options += ["--frames-per-second", arguments.frames_per_second]
    results: dict[str, list[dict]] = {"frames": [], "verdicts": []}
    for number in range(arguments.pairs):
        for keep in sorted(results, reverse=bool(number % 2)):
            command = [sys.executable, "-m", "benchmarks.keeping", *map(str, options), "--keep", keep]
            done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
            found = json.loads(done.stdout.splitlines()[-1])
            results[keep].append(found)
            print(
                f"  {keep:9} {found['wall']:7.2f} s   {found['cpu']:7.2f} CPU s   {found['frames'] / 1e6:7.1f} MB of frames and sound",
                flush=True,
            )
    same = len({found["store"] for each in results.values() for found in each}) == 1
    print(f"the stores are {'the same bytes' if same else 'NOT THE SAME'}")
    for measure in ("wall", "cpu"):
        frames, verdicts = (statistics.median(found[measure] for found in results[keep]) for keep in results)
        print(f"{measure}: verdicts take {verdicts / frames:.2f} times what frames take (medians of {arguments.pairs}; wanted: {WANTED})")


if __name__ == "__main__":
    main()
