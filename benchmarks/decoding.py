"""Compare the CPU time of decoding and handing over clips with that of decord and the whole transform.

python -m benchmarks.decoding [--clips DIRECTORY] [--count 32] [--frames-per-second 16] [--workers N] [--rounds 3]

Every round measures both on the same clips, one after the other:
    ours   files -> child processes -> entries of a fresh cache -> read and checked again in threads, as uint8 frames and sound
    plain  decord -> resized, cropped and normalized frames, one clip at a time; no sound, no guard, no verdict, nothing kept
The ratio is that of the medians of CPU seconds, children and their start included: at most 0.9 is wanted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.extraction import Bench, Measured, find_clips, measured, plain_reading
from pipeline.cache import Cache
from pipeline.media.decoding import decode_clips, load_decoded
from pipeline.media.settings import MediaSettings

ENCODER = "resnet50"  # whose transform the plain loop applies


@dataclass(frozen=True)
class DecodeCosts:
    """Measurements of both ways, one of each a round."""

    ours: list[Measured]
    plain: list[Measured]

    @property
    def ratio(self) -> float:
        """CPU seconds of ours over those of the plain loop."""
        return median(each.cpu for each in self.ours) / median(each.cpu for each in self.plain)

    def __str__(self) -> str:
        ours, plain = (median(each.cpu / each.clips for each in way) for way in (self.ours, self.plain))
        return f"decoding and handing over: {ours:.3f} CPU s a clip; decord with the transform: {plain:.3f}; ratio {self.ratio:.2f}"


def decode_costs(files: list[Path], frames_per_second: float = 16.0, workers: int | None = None, rounds: int = 3) -> DecodeCosts:
    """Measure both ways ``rounds`` times in turns.

    Args:
        files: clips of ten seconds or more that decode.
        workers: child processes that decode, and threads that read; by default as many as cores.
    """
    workers = workers or len(os.sched_getaffinity(0))
    bench = Bench(files, ENCODER, MediaSettings(frames_per_second=frames_per_second, workers=workers), "cpu", workers)
    costs = DecodeCosts([], [])
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as root:
            costs.ours.append(hand_over(bench, Cache(root)))
        costs.plain.append(plain_reading(bench, Path()))
    return costs


def hand_over(bench: Bench, cache: Cache) -> Measured:
    jobs = bench.jobs(cache)

    def load(clip: str) -> int:
        frames, _, _ = load_decoded(cache, clip, jobs[clip].key, jobs[clip])
        return len(torch.from_numpy(frames))

    def work() -> None:
        manifest = decode_clips(list(jobs.values()), [], bench.media)
        with ThreadPoolExecutor(bench.workers) as pool:
            assert sum(pool.map(load, manifest["clip"])) == len(jobs) * bench.frames_of_clip

    return measured(len(jobs), work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--frames-per-second", type=float, default=16.0)
    parser.add_argument("--workers", type=int, help="default: as many as cores")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = find_clips(arguments.clips, arguments.count, Path(scratch))
        costs = decode_costs(files, arguments.frames_per_second, arguments.workers, arguments.rounds)
    for number, (ours, plain) in enumerate(zip(costs.ours, costs.plain, strict=True), 1):
        print(f"round {number}: ours {ours}; plain {plain}")
    print(costs)


if __name__ == "__main__":
    main()
