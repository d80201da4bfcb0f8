"""Measure what grows with the number of clips, stage by stage, on projects of made-up ones.

python -m benchmarks.scale [--sizes 1000 10000 100000] [--parts index decode extract ...] [--limit 120] [--directory DIR]

Each size gets a scratch project with the real stages, dvc.yaml and data set kind `folder`. Its files are a few bytes each, all different;
entries of the cache are hard links to one decoded clip and its features. So nothing is decoded or encoded, and what is left is the cost
of keeping account. A real archive adds the reading of its files by `index` (once, see pipeline/datasets/hashes.py) and by DVC (once).
Parts, each a process of its own; seconds include its start:
    index    the stage, with every file hashed; `again`: with the hashes that it remembered
    decode   the stage, every clip in the cache: the manifest
    extract  the stage, all features in the cache: the store and its index
    more     one real clip is added: index, decode and extract again; only that clip is decoded and encoded
    commit   DVC hashes every file for the first time, and records the three stages
    status   `dvc status` of them
    repro    `dvc repro` of them, which runs nothing
    report   the stage, with one run that predicted a tenth of the clips
After --limit seconds a part is ended, and larger sizes leave it out. The exponent is the slope of log(CPU seconds above those of the
smallest size) over log(clips above the smallest size), by least squares: 1 is linear, and the start of a process does not hide in it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from benchmarks.report import spans, write_run
from pipeline import config
from pipeline.cache import Cache
from pipeline.datasets import read_index
from pipeline.features.clip_encoder import KIND as FEATURES
from pipeline.features.extraction import Extraction
from pipeline.features.store import entry_shapes
from pipeline.media.decoding import make_jobs
from pipeline.media.job import KIND as DECODED
from pipeline.media.job import Job, decode_into_cache
from pipeline.media.movie import write_clip
from pipeline.tables import read_table

REPOSITORY = Path(__file__).resolve().parents[1]
FEATURE_SET = "lite0_logmel"  # as benchmarks.report names it
STAGES = ["index", "decode", f"extract@{FEATURE_SET}"]
CLASSES = 28
LINKS = 60_000  # to one file; ext4 takes 65,000
CODE = ["pipeline", "stages", ".dvc/config", "dvc.yaml", ".dvcignore", ".gitignore"]
CODE += ["data/none", "models/encoders/none", "models/pretrained"]
SETTINGS = {
    "synth": {}, "finetune": {}, "imports": {}, "labels": {}, "media": {"frames_per_second": 1, "frame_size": 64, "max_bad_fraction": 0},
    "dataset": {"kind": "folder", "clips": "data/raw/clips", "annotations": "data/raw/labels.csv", "segments": 10, "segment_seconds": 1.0},
    "features": {FEATURE_SET: {
        "visual": {"encoder": "efficientnet_lite0", "weights": "pretrained", "image_size": 64, "resize": 64, "pool": "average"},
        "audio": {"encoder": "logmel"}, "finetuned": "none", "device": "cpu",
    }},
    "methods": {"avel": {}}, "train": {"device": "cpu"},
    "runs": {"made": {"task": "avel", "method": "avel", "features": FEATURE_SET, "seeds": [0]}},
    "report": {"title": "Made", "baseline": "made"},
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Wall seconds, CPU seconds and most memory (MiB) of a part; what it said last."""

    seconds: float
    cpu: float
    peak: float
    said: str


class TooSlow(Exception):
    """A part took longer than its limit."""


def most_memory(process: int) -> float:
    """The most memory that a process has had so far, in MiB; 0 once it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/status", encoding="utf-8") as file:
        return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:")), 0.0)
    return 0.0


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Made:
    """A scratch project of made-up clips, its stages run by :meth:`run`."""

    def __init__(self, root: Path, count: int, limit: float) -> None:
        self.root, self.count, self.limit = root / "project", count, limit
        self.cache = Cache(root / "cache")
        self.environment = {**os.environ, "AVEL_CACHE": str(self.cache.root), "OMP_NUM_THREADS": "2", "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for name in CODE:
            source, target = REPOSITORY / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        with open(self.root / "params.yaml", "w", encoding="utf-8") as stream:
            YAML(typ="safe").dump(SETTINGS, stream)
        self._write_clips()

    def _write_clips(self) -> None:
        clips = self.root / "data/raw/clips"
        lines = ["clip,split,label,onset,offset"]
        for number in range(self.count):
            name = f"{number // 1000:04d}/{number:07d}.mp4"
            if number % 1000 == 0:
                (clips / name).parent.mkdir(parents=True)
            (clips / name).write_bytes(number.to_bytes(8, "big"))
            split = "test" if number < self.count // 10 else "val" if number < self.count // 5 else "train"
            lines.append(f"{name},{split},class {number % CLASSES},{number % 5},{number % 5 + 4}")
        (self.root / "data/raw/labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, *command: str) -> Cost:
        """Run a command in the project.

        Raises:
            TooSlow: it took longer than the limit.
            RuntimeError: it failed.
        """
        with tempfile.TemporaryFile() as output:
            started, before = time.monotonic(), cpu_of_children()
            process = subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=output, stderr=subprocess.STDOUT)
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, most_memory(process.pid))
                if time.monotonic() - started > self.limit:
                    process.kill()
                    process.wait()
                    raise TooSlow
                time.sleep(0.01)
            seconds = time.monotonic() - started
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{text[-3000:]}")
        return Cost(seconds, cpu_of_children() - before, peak, text.splitlines()[-1] if text else "")

    def stage(self, name: str, *arguments: str) -> Cost:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments)

    def jobs(self) -> dict[str, Job]:
        params = config.load(self.root / "params.yaml")
        index, _ = read_index(self.root / "data/index", params.dataset.clips)
        return make_jobs(index, params.dataset.segments, params.dataset.segment_seconds, params.media, self.cache)[0]

    def write_film(self, path: Path, seed: int) -> None:
        """Write a real clip of ten seconds."""
        generator = np.random.default_rng(seed)
        pictures = generator.integers(0, 256, (40, 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        write_clip(path, pictures, 4, (0.1 * generator.standard_normal(160_000)).astype(np.float32), 16_000)

    def link_decoded(self) -> None:
        """Give every clip of the index the entry of one real clip."""
        jobs = self.jobs()
        film = self.root.parent / "film.mp4"
        self.write_film(film, 0)
        one = Job(**{**vars(next(iter(jobs.values()))), "file": str(film), "hashed": False})
        assert decode_into_cache(one)["status"] == "ok"
        self._link(DECODED, one.key, (job.key for job in jobs.values()))

    def link_features(self) -> None:
        params = config.load(self.root / "params.yaml")
        plan = Extraction(params.features[FEATURE_SET], self.jobs(), self.cache).plan
        clips = plan.clips(read_table(self.root / "data/clips/clips.parquet"))
        for modality, shape in entry_shapes(plan.spec(clips[0].job)).items():
            key = clips[0].keys[modality]
            self.cache.put(FEATURES, key, {"features": np.zeros(shape, np.float16)}, {"machine": {}})
            self._link(FEATURES, key, (clip.keys[modality] for clip in clips))

    def _link(self, kind: str, template: str, keys: Iterable[str]) -> None:
        source = self.cache.path(kind, template)
        for number, key in enumerate(keys):
            target = self.cache.path(kind, key)
            if number % LINKS == LINKS - 1:
                source = Path(shutil.copy2(source, self.root.parent / f"{template}-{number}.npz"))
            if target != source and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, target)

    def index(self) -> dict[str, Cost]:
        self.stage("plan")
        return {"index": self.stage("index"), "index, again": self.stage("index")}

    def decode(self) -> dict[str, Cost]:
        self.link_decoded()
        return {"decode": self.stage("decode")}

    def extract(self) -> dict[str, Cost]:
        self.link_features()
        return {"extract": self.stage("extract", FEATURE_SET)}

    def more(self) -> dict[str, Cost]:
        name = f"{self.count // 1000:04d}/more.mp4"
        film = self.root / "data/raw/clips" / name
        film.parent.mkdir(exist_ok=True)
        self.write_film(film, self.count)
        with open(self.root / "data/raw/labels.csv", "a", encoding="utf-8") as stream:
            stream.write(f"{name},train,class 0,0,4\n")
        stages = {"index": (), "decode": (), "extract": (FEATURE_SET,)}
        return {f"one clip more: {stage}": self.stage(stage, *arguments) for stage, arguments in stages.items()}

    def commit(self) -> dict[str, Cost]:
        for command in (("git", "init", "-q"), ("dvc", "config", "cache.type", "hardlink")):
            self.run(*command)
        return {"dvc, first hashing": self.run("dvc", "commit", "-q", "-f", "plan", *STAGES)}

    def status(self) -> dict[str, Cost]:
        return {"dvc status": self.run("dvc", "status", *STAGES)}

    def repro(self) -> dict[str, Cost]:
        return {"dvc repro, nothing to do": self.run("dvc", "repro", STAGES[-1])}

    def report(self) -> dict[str, Cost]:
        events = spans(max(20, self.count // 10), CLASSES)
        write_run(self.root / "data/results/runs/made", events, CLASSES, seeds=1, epochs=20, skill=3.0)
        return {"report": self.stage("report")}


PARTS = ["index", "decode", "extract", "more", "commit", "status", "repro", "report"]
NEEDS = {"decode": ["index"], "extract": ["decode"], "more": ["extract"], "commit": ["extract"], "status": ["commit"], "repro": ["commit"],
         "report": ["decode"]}  # fmt: skip


def in_order(parts: list[str]) -> list[str]:
    """The parts and what they need, in the order in which they run."""
    wanted = set(parts)
    for part in reversed(PARTS):
        wanted |= set(NEEDS.get(part, [])) if part in wanted else set()
    return [part for part in PARTS if part in wanted]


def exponent(seconds: dict[int, float]) -> float | None:
    """Slope of log(seconds) over log(clips), both above the smallest size's; None with fewer than two such points."""
    (least, start), *others = sorted(seconds.items())
    points = [(np.log(count - least), np.log(value - start)) for count, value in others if value > start]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="those that they need run as well")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of one command")
    parser.add_argument("--directory", type=Path, help="put the scratch projects there, and keep them")
    arguments = parser.parse_args()
    costs: dict[str, dict[int, Cost]] = {}
    over: set[str] = set()
    for count in sorted(arguments.sizes):
        with contextlib.ExitStack() as stack:
            kept = arguments.directory and arguments.directory.absolute() / f"{count}-clips"
            scratch = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            started = time.monotonic()
            made = Made(scratch, count, arguments.limit)
            print(f"{count} clips: made in {time.monotonic() - started:.0f} s", flush=True)
            for part in in_order(arguments.parts):
                if {part, *NEEDS.get(part, [])} & over:
                    over.add(part)
                    continue
                try:
                    found: dict[str, Cost] = getattr(made, part)()
                except TooSlow:
                    over.add(part)
                    print(f"  {part}: over {arguments.limit:g} s", flush=True)
                    continue
                for name, cost in found.items():
                    costs.setdefault(name, {})[count] = cost
                    print(f"  {name}: {cost.seconds:.1f} s, {cost.cpu:.1f} s of CPU, {cost.peak:.0f} MiB; {cost.said[:90]}", flush=True)
    sizes = sorted({count for of_part in costs.values() for count in of_part})
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds, CPU seconds (MiB)\n")
    print(f"| | {' | '.join(f'{count:,}' for count in sizes)} | exponent |\n|---{'|---' * len(sizes)}|---|")
    for name, of_part in costs.items():
        cells = [
            f"{of_part[count].seconds:.1f}, {of_part[count].cpu:.1f} ({of_part[count].peak:.0f})" if count in of_part else ""
            for count in sizes
        ]
        slope = exponent({count: cost.cpu for count, cost in of_part.items()})
        print(f"| {name} | {' | '.join(cells)} | {'' if slope is None else f'{slope:.2f}'} |")


if __name__ == "__main__":
    main()
