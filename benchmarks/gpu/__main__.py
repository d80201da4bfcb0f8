"""Measure everything that a graphics card changes, in under nine minutes: extraction, training, fine-tuning; one table last.

python -m benchmarks.gpu [--parts NAME ...] [--limit 540] [--clips DIRECTORY] [--count 32] [--copies 3] [--whole]
python -m benchmarks.gpu --device cpu --small      (a trial of the command where there is no card; its numbers say nothing)

Parts (--parts takes beginnings of names, --list prints them; --skip leaves parts out):
    extraction/ENCODER@RATE   decode, encode, end to end, the plain loop, at 16 and 2 frames/s, in float32, TF32 and bfloat16
    steps/METHOD              a step of the training loop, captured as a CUDA graph and not, and CACE-Net as released in float64
    epochs/PRECISION          CACE-Net's epochs on AVE's shapes with validation, as `stages.train` runs them
    seeds                     five seeds of CACE-Net at once
    finetuning/...            contrastive fine-tuning, images a second
Each part runs in a process of its own under its own time limit, so that a crash or a hang loses only what it had not yet measured.
Ratios compare numbers of one run. Results are printed as they come, and written to gpu.json in --out (default $OUT, else here).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Part, parts
from benchmarks.gpu.table import Record, table

LEAST = 10.0  # seconds left, without which no part is started
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    """The lines of one part, how it ended, the seconds it took and what it printed."""

    part: str
    ended: str = "not started"
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)
    log: list[str] = field(default_factory=list)  # the end of what it printed


def command_of(part: Part, results: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu.parts", part.function, json.dumps(part.arguments), str(results)]


class Child:
    """The process of one part, in a group of its own; it imports what it needs and waits for :meth:`run`."""

    def __init__(self, part: Part, results: Path) -> None:
        self.part, self.results = part, results
        results.write_text("", encoding="utf-8")
        self.log = open(results.with_suffix(".log"), "w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            command_of(part, results),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, limit: float, start_next: Callable[[], object]) -> Outcome:
        """Let it measure; print its lines as they come, and kill the group at ``limit`` seconds.

        ``start_next`` is called while this part runs, behind an extraction's measurement of decoding, which takes every core.
        """
        outcome, start, waiting = Outcome(self.part.name), time.monotonic(), True
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has failed already
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
        while True:
            running = self.process.poll() is None
            outcome.records += new_records(self.part, self.results, len(outcome.records))
            if not running or time.monotonic() - start > limit:
                break
            if waiting and (outcome.records or self.part.function != "extraction"):
                start_next()
                waiting = False
            time.sleep(0.1)
        self.stop()
        outcome.seconds = time.monotonic() - start
        code = self.process.returncode
        outcome.ended = f"killed at {limit:.0f} s" if running else f"exit code {code}" if code else "ok"
        self.log.seek(0)
        outcome.log = self.log.read().splitlines()[-100:]
        for line in outcome.log[-4 if outcome.ended == "ok" else -12 :]:
            print(f"    | {line}", flush=True)
        print(f"{self.part.name}: {outcome.ended}, {outcome.seconds:.1f} s", flush=True)
        return outcome

    def stop(self) -> None:
        """End the process and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Children:
    """Starts the processes of successive parts, one ahead of the part that runs."""

    def __init__(self, chosen: list[Part], scratch: Path) -> None:
        self.chosen, self.scratch, self.started = chosen, scratch, dict[int, Child]()

    def get(self, number: int) -> Child:
        """Start the process of a part unless it is started."""
        if number not in self.started:
            self.started[number] = Child(self.chosen[number], self.scratch / f"part-{number}.jsonl")
        return self.started[number]

    def run(self, number: int, limit: float) -> Outcome:
        return self.get(number).run(limit, lambda: self.get(number + 1) if number + 1 < len(self.chosen) else None)

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.started.values():
            child.stop()
            child.log.close()


def new_records(part: Part, results: Path, known: int) -> list[Record]:
    """Read and print the whole lines that the part has written since ``known`` lines."""
    whole = results.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()[known:]
    records = [Record(part.name, **json.loads(line)) for line in whole]
    for record in records:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in record.numbers.items())
        print(f"  {part.name} {record.line}: {numbers}", flush=True)
    return records


def machine(device: str) -> str:
    """Describe the card, the cores and the commit, without starting CUDA in this process."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    card = output(query) if device == "cuda" else "no card (trial)"
    commit = output(["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"])
    processor = next(
        (line.partition(":")[2].strip() for line in output(["cat", "/proc/cpuinfo"]).splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    cores = len(os.sched_getaffinity(0))
    return f"{card}; {cores} cores of {processor}; commit {commit}; {time.strftime('%Y-%m-%d %H:%M')}; load {os.getloadavg()[0]:.1f}"


def output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=[""], metavar="NAME", help="only parts whose names begin so")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="no parts whose names begin so")
    parser.add_argument("--list", action="store_true", help="print the names of the parts and their limits")
    parser.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="for everything; parts that do not fit are left out")
    parser.add_argument("--clips", type=Path, help="directory of clips (default .gpu/clips, else real or made ones)")
    parser.add_argument("--count", type=int, default=32, help="clips of an extraction")
    parser.add_argument("--copies", type=int, default=3, help="of every clip, decoded by the pipeline")
    parser.add_argument("--whole", action="store_true", help="train all 200 epochs instead of a few")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the command")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="directory for gpu.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    start, outcomes = time.monotonic(), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="avel-gpu-") as scratch:
        chosen = [
            part
            for part in parts(options, Path(scratch))
            if part.name.startswith(tuple(options.parts)) and not part.name.startswith(tuple(options.skip))
        ]
        if options.list:
            print("\n".join(f"{part.name}  (at most {part.limit:.0f} s)" for part in chosen))
            return
        about = machine(options.device)
        print(about, flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        with Children(chosen, Path(scratch)) as children:
            for number, part in enumerate(chosen):
                left = options.limit - (time.monotonic() - start)
                outcomes.append(children.run(number, min(part.limit, left)) if left > LEAST else Outcome(part.name))
                document: dict[str, Any] = {"machine": about, "parts": [asdict(each) for each in outcomes]}
                (options.out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"\n{about}; {time.monotonic() - start:.0f} s")
    print("\n".join(table([record for outcome in outcomes for record in outcome.records])))
    for outcome in outcomes:
        if outcome.ended != "ok":
            print(f"{outcome.part}: {outcome.ended}")


if __name__ == "__main__":
    main()
