"""Queued, running and finished DVC experiments as one table: the params each changed, and the results of its runs.

>>> print(markdown(experiments_table(read_experiments(Path.cwd(), commits=10), "abl-*")))  # doctest: +SKIP
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.report.tables import NOTHING, Table

METRICS = "data/results/report/metrics.json"
PARAMS = "params.yaml"
AT_WORK, TRIES = ".dvc/tmp/exps/", 5  # DVC fails if it looks into an experiment's directory there just before that starts or after it ends
STATES = {None: "done", "success": "done"}
HIDDEN = frozenset({"std"})


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment, or the commit it starts from.

    params: flat, by dotted path.
    metrics: for each run {headline: mean, "std": spread}; empty until the experiment has finished.
    rev: its commit.
    """

    name: str
    state: str
    params: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    rev: str


@dataclass(frozen=True)
class Family:
    """The experiments that start from one commit."""

    baseline: Experiment
    experiments: list[Experiment]


def read_experiments(root: Path, commits: int) -> list[Family]:
    """Read the experiments of the last ``commits`` commits from `dvc exp show`.

    Raises:
        PipelineError: DVC fails; with its own message.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(commits)]
    said = ""
    for _ in range(TRIES):
        done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
        if not done.returncode:
            return families_of(json.loads(done.stdout))
        said = done.stderr.strip() or done.stdout.strip()
        if AT_WORK not in said:
            break
    raise PipelineError(f"dvc exp show failed: {said}")


def families_of(commits: list[dict[str, Any]]) -> list[Family]:
    """Parse the output of `dvc exp show --json`, without the workspace."""
    families = []
    for commit in commits:
        if commit["rev"] == "workspace":
            continue
        name = commit.get("name") or commit["rev"][:7]
        experiments = [_experiment(entry) for entry in commit.get("experiments") or []]
        families.append(Family(_state(name, "baseline", commit), experiments))
    return families


def _experiment(entry: Mapping[str, Any]) -> Experiment:
    """Parse one experiment; with checkpoints it has several revisions, the newest first."""
    newest = entry["revs"][0]
    state = (entry.get("executor") or {}).get("state")
    return _state(entry.get("name") or newest["rev"][:7], STATES.get(state, str(state)), newest)


def _state(name: str, state: str, revision: Mapping[str, Any]) -> Experiment:
    data = revision.get("data") or {}
    if revision.get("error"):
        state = "failed"
    params = (data.get("params") or {}).get(PARAMS, {}).get("data") or {}
    metrics = (data.get("metrics") or {}).get(METRICS, {}).get("data") or {}
    return Experiment(name, state, dict(flat(params)), metrics if state in {"baseline", "done"} else {}, revision["rev"])


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested params: {"a": {"b": 1}} -> ("a.b", 1)."""
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def experiments_table(families: list[Family], pattern: str) -> Table:
    """One line for each experiment with a matching name, below the commit it starts from.

    Differences are to that commit. Only params and runs that some experiment changed have a column.

    Raises:
        PipelineError: no name matches; lists the existing names.
    """
    chosen = [Family(f.baseline, [e for e in f.experiments if fnmatchcase(e.name, pattern)]) for f in families]
    chosen = [family for family in chosen if family.experiments]
    if not chosen:
        known = sorted(experiment.name for family in families for experiment in family.experiments)
        raise PipelineError(f"no experiment's name matches {pattern!r} (there are: {', '.join(known) or 'none'})")
    params = sorted({path for family in chosen for experiment in family.experiments for path in _changed(family.baseline, experiment)})
    runs = _moved_runs(chosen)
    lines = []
    for family in chosen:
        lines.append(_line(family.baseline, family.baseline, params, runs))
        lines += [_line(experiment, family.baseline, params, runs) for experiment in sorted(family.experiments, key=lambda e: e.name)]
    return Table(["Experiment", "State", *params, *(f"{run} {_headline(chosen, run)}" for run in runs)], lines)


def _changed(baseline: Experiment, experiment: Experiment) -> list[str]:
    paths = baseline.params.keys() | experiment.params.keys() if experiment.params else []  # DVC reports no params of a failed experiment
    return [path for path in paths if baseline.params.get(path) != experiment.params.get(path)]


def _moved_runs(families: list[Family]) -> list[str]:
    everyone = [experiment for family in families for experiment in (family.baseline, *family.experiments)]
    runs = list(dict.fromkeys(run for experiment in everyone for run in experiment.metrics))
    moved = [
        run
        for run in runs
        if any(e.metrics.get(run) != family.baseline.metrics.get(run) for family in families for e in family.experiments if e.metrics)
    ]
    return moved or runs


def _headline(families: list[Family], run: str) -> str:
    everyone = (experiment for family in families for experiment in (family.baseline, *family.experiments))
    return next(name for experiment in everyone for name in experiment.metrics.get(run, {}) if name not in HIDDEN)


def _line(experiment: Experiment, baseline: Experiment, params: list[str], runs: list[str]) -> list[str]:
    values = [str(experiment.params[path]) if path in experiment.params else NOTHING for path in params]
    scores = [score(experiment.metrics.get(run), baseline.metrics.get(run) if experiment is not baseline else None) for run in runs]
    return [experiment.name, experiment.state, *values, *scores]


def score(metrics: Mapping[str, float | None] | None, baseline: Mapping[str, float | None] | None) -> str:
    """Format mean, spread over seeds and difference to the baseline, as far as known: ``82.42 ± 0.63 (+0.59)``."""
    headline = next((name for name in metrics or {} if name not in HIDDEN), "")
    mean, before = (metrics or {}).get(headline), (baseline or {}).get(headline)
    if metrics is None or mean is None:
        return NOTHING
    spread = f" ± {metrics['std']:.2f}" if metrics.get("std") is not None else ""
    return f"{mean:.2f}{spread}" + (f" ({mean - before:+.2f})" if before is not None else "")
