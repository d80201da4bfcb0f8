"""Kill a `dvc repro` of a tiny project at random moments, and check that no byte differs in the end.

python -m benchmarks.kills [--kills 200] [--seed 0] [--minutes M] [--at DIRECTORY]

Runs the project undisturbed, then in rounds from scratch with kills. Each starting stage is hit with a probability of 0.6, at a moment
drawn from its undisturbed length; sometimes `dvc` is hit while it starts. SIGKILL (2 of 3) or SIGTERM goes to the whole process group, to
dvc alone (its stage continues, and the next start waits for it or runs into its lock) or to the stage alone. Then `dvc repro` runs again
until it completes: every published byte is compared with the undisturbed run's (except training times in the report), and one more
`dvc repro` must run nothing. Rounds alternate between training two seeds at a time and one.

Prints kills by stage and by signal; rounds compared, files that differ, leftovers (beside outs, in the cache, in the temporary directory);
starts that found an orphan's lock, and other failed starts; tracebacks in any output, including that of killed processes.
With --at, everything is kept, and starting the same command again continues to the number of kills. Needs Linux; about 12 s per kill.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.killed_world import (
    PARAMS,
    PATIENCE_SECONDS,
    REPOSITORY,
    STAGES,
    Start,
    files,
    open_project,
    running_stage,
    session,
    start_over,
    undisturbed,
    wait_for,
)
from pipeline.console import ending_on_sigterm
from pipeline.doctor import TORN
from tests.end_to_end.tiny_project import TIMED, without_times

CHANCE, CHANCE_DVC = 0.6, 0.15
ORPHAN = "is already running here"  # a stage's message when its own orphan is running


class Campaign:
    """The reference, the project to kill, and the records, one JSON object per line."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.records = root, []
        self.journal = root / "records.jsonl"
        if self.journal.exists():
            self.records = [json.loads(line) for line in self.journal.read_text(encoding="utf-8").splitlines()]
        self.random = random.Random(f"{seed} {len(self.records)}")
        self.orphans: list[int] = []
        kept = root / "reference.json"
        reference = open_project(root / "reference")
        if not kept.exists():
            start_over(reference)
            commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, encoding="utf-8").strip()
            seconds = undisturbed(reference, root / "reference.log")
            kept.write_text(json.dumps({"commit": commit, "seconds": seconds}), encoding="utf-8")
        facts = json.loads(kept.read_text(encoding="utf-8"))
        self.commit: str = facts["commit"]
        self.seconds: dict[str, float] = facts["seconds"]
        self.expected, self.expected_files = reference.outs(), files(reference)
        self.project = open_project(root / "killed")

    def record(self, kind: str, **facts: object) -> None:
        self.records.append({"kind": kind, **facts})
        with open(self.journal, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(self.records[-1]) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {len(self.of('kill'))} {self.records[-1]}", flush=True)

    def of(self, kind: str) -> list[dict]:
        return [record for record in self.records if record["kind"] == kind]

    def step(self, kill: bool) -> bool:
        """Start once and record the outcome; True if it ran to completion."""
        rounds = len(self.of("round"))
        self.project.write_params({**PARAMS, "machine": {"seeds_at_once": 2 - rounds % 2}})
        self.orphans = [number for number in self.orphans if session(number)]
        met = bool(self.orphans)
        start = Start(self.project, self.root / f"start-{len(self.records)}.log")
        try:
            killed = start.until(self.moment() if kill else never) and self.kill(start)
        except BaseException:
            os.killpg(start.process.pid, signal.SIGKILL)
            raise
        if not killed and start.process.returncode:
            torn = [path for path, sentence in TORN.items() if re.search(sentence, start.output)]
            known = "met its orphan" if met and ORPHAN in start.output else "unexplained"
            self.record("failure", what=f"{torn[0]} torn" if torn else known, code=start.process.returncode, log=start.log.name)
            for path in torn:
                shutil.copy2(self.project.root / path, self.root / f"torn-{len(self.records)}-{Path(path).name}")
                (self.project.root / path).unlink()
            if not wait_for(lambda: not any(map(session, self.orphans))):
                raise SystemExit(f"an orphan does not end: sessions {self.orphans}")
        if "Traceback" in start.output:
            self.record("traceback", log=start.log.name, killed=killed, lines=start.output.count("Traceback"))
        if known_to_fail := [failure for failure in self.of("failure") if failure["what"] == "unexplained"][2:]:
            raise SystemExit(f"starts fail: {known_to_fail}")
        if ended := not killed and not start.process.returncode:
            self.finish()
        return ended

    def moment(self) -> Callable[[list[str], float], float]:
        """Draw the moment to kill; drawn again whenever a stage begins."""
        at = self.random.random() * 3 if self.random.random() < CHANCE_DVC else float("inf")
        known, deadline = -1, float("inf")

        def at_stage(stages: list[str], now: float) -> float:
            nonlocal known, deadline
            if known < 0:
                known, deadline = 0, now + at
            if len(stages) > known:
                known = len(stages)
                struck = self.random.random() < CHANCE
                length = self.seconds.get(stages[-1], 5.0)
                deadline = now + self.random.random() * 1.05 * length if struck else float("inf")
            return deadline

        return at_stage

    def kill(self, start: Start) -> bool:
        """Send a signal and wait for the killed processes to end."""
        number = start.process.pid
        stage = running_stage(session(number))
        target = self.random.choice(["group", "dvc", "stage"]) if stage else self.random.choice(["group", "dvc"])
        what = signal.SIGKILL if self.random.random() < 2 / 3 else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            stage[1].send_signal(what) if target == "stage" else (os.killpg if target == "group" else os.kill)(number, what)
        name = stage[0] if stage else "dvc"
        code = start.process.wait(timeout=PATIENCE_SECONDS)
        if code == 0:  # it, or its stage, had ended before the signal
            return False
        met = target == "dvc" and stage is not None and self.random.random() < 0.5
        if met:
            self.orphans.append(number)
        elif not wait_for(lambda: not session(number), PATIENCE_SECONDS if target == "dvc" else 10):
            self.record("survivors", stage=name, processes=[process.cmdline()[:6] for process in session(number)])
            raise SystemExit("processes outlive what started them")
        self.record("kill", stage=name, target=target, signal=what.name, code=code, met=met, log=start.log.name)
        return True

    def finish(self) -> None:
        """Compare a completed run, check that nothing is left to do, and start over from scratch."""
        if not wait_for(lambda: not any(map(session, self.orphans))):
            raise SystemExit(f"an orphan does not end: sessions {self.orphans}")
        outs, stood = self.project.outs(), files(self.project)
        differ = sorted(path for path in outs.keys() | self.expected.keys() if not self.same(path, outs))
        left = sorted(set(stood) - set(self.expected_files))
        ran, _ = self.project.repro()
        self.record("round", differ=differ, left=left, missing=sorted(set(self.expected_files) - set(stood)), ran_again=sorted(ran))
        if differ:
            shutil.copytree(self.project.root, self.root / f"differs-{len(self.records)}")
        start_over(self.project)

    def same(self, path: str, outs: dict[str, bytes]) -> bool:
        if path not in outs or path not in self.expected:
            return False
        if path not in TIMED:
            return outs[path] == self.expected[path]
        runs = len(PARAMS["runs"])
        return without_times(path, outs[path], runs) == without_times(path, self.expected[path], runs)

    def summary(self) -> str:
        kills, rounds = self.of("kill"), self.of("round")
        by_stage = Counter(kill["stage"] for kill in kills)
        by_signal = Counter(f"{kill['signal']} to {kill['target']}" for kill in kills)
        lines = [
            f"{self.commit}: {len(kills)} kills; {len(rounds)} rounds came to their end and were compared, {len(self.expected)} files each"
        ]
        lines += [f"by stage: {', '.join(f'{name} {count}' for name, count in sorted(by_stage.items()))}"]
        lines += [f"by signal: {', '.join(f'{name} {count}' for name, count in sorted(by_signal.items()))}"]
        lines += [f"stages never hit: {', '.join(sorted(STAGES - set(by_stage))) or 'none'}"]
        for what in ("differ", "left", "missing", "ran_again"):
            found = Counter(re.sub(r"[0-9a-z_]{8}$", "*", path) for record in rounds for path in record[what])
            lines.append(f"{what}: {sum(found.values())}{''.join(f'; {path} x{count}' for path, count in found.items())}")
        lines.append(f"orphans met: {sum(kill['met'] for kill in kills)}; failures: {dict(Counter(r['what'] for r in self.of('failure')))}")
        lines.append(f"exit codes of killed starts: {dict(Counter(kill['code'] for kill in kills))}")
        lines.append(f"outputs with a traceback: {len(self.of('traceback'))} {[record['log'] for record in self.of('traceback')]}")
        return "\n".join(lines)


def never(_stages: list[str], _now: float) -> float:
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop killing after this time; the round is completed")
    parser.add_argument("--at", type=Path, help="directory in which to keep everything and to continue")
    options = parser.parse_args()
    root = options.at or Path(tempfile.mkdtemp(prefix="avel-kills-"))
    root.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    campaign = Campaign(root.resolve(), options.seed)
    more, ended = True, False
    with ending_on_sigterm():  # so that child processes are ended too
        while more or not ended:
            more = len(campaign.of("kill")) < options.kills and time.monotonic() < end
            ended = campaign.step(kill=more)
    print(campaign.summary())
    if options.at is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
