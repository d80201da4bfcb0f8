"""Measure everything that a graphics card changes, in under nine minutes: extraction, training, fine-tuning; one table last.

python -m benchmarks.gpu [--parts NAME ...] [--limit 540] [--clips DIRECTORY] [--count 32] [--whole]
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


def run_part(part: Part, limit: float, results: Path) -> Outcome:
    """Run one part in a process group of its own; kill the group at ``limit`` seconds."""
    outcome, start = Outcome(part.name), time.monotonic()
    with open(results.with_suffix(".log"), "w+", encoding="utf-8", errors="replace") as log:
        results.write_text("", encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.gpu.parts", part.function, json.dumps(part.arguments), str(results)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            while True:
                running = process.poll() is None
                outcome.records += new_records(part, results, len(outcome.records))
                if not running or time.monotonic() - start > limit:
                    break
                time.sleep(0.1)
        finally:
            stop_group(process)
        outcome.seconds = time.monotonic() - start
        outcome.ended = "ok" if process.returncode == 0 else f"killed at {limit:.0f} s" if running else f"exit code {process.returncode}"
        log.seek(0)
        outcome.log = log.read().splitlines()[-100:]
        for line in outcome.log[-4 if outcome.ended == "ok" else -12 :]:
            print(f"    | {line}", flush=True)
    print(f"{part.name}: {outcome.ended}, {outcome.seconds:.1f} s", flush=True)
    return outcome


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
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
        for number, part in enumerate(chosen):
            left = options.limit - (time.monotonic() - start)
            outcome = Outcome(part.name) if left < LEAST else run_part(part, min(part.limit, left), Path(scratch) / f"part-{number}.jsonl")
            outcomes.append(outcome)
            options.out.mkdir(parents=True, exist_ok=True)
            document: dict[str, Any] = {"machine": about, "parts": [asdict(each) for each in outcomes]}
            (options.out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"\n{about}; {time.monotonic() - start:.0f} s")
    print("\n".join(table([record for outcome in outcomes for record in outcome.records])))
    for outcome in outcomes:
        if outcome.ended != "ok":
            print(f"{outcome.part}: {outcome.ended}")


if __name__ == "__main__":
    main()
