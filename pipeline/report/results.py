"""What `evaluate` left of each run, gathered for tables and figures. A run or seed without results says so, and what is old is marked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.cache import file_sha256
from pipeline.machine import UNKNOWN
from pipeline.made_with import changed_params
from pipeline.sealed import read_sealed
from pipeline.tables import intact, read_table
from pipeline.tasks import TASKS
from pipeline.training.settings import Run


@dataclass
class RunResult:
    """One run of ``runs``.

    scores: headline metric on test, one value per seed, in the order of the run's seeds; empty where it has no results, or no test.
    absent: why there are no numbers of the run as it is set now; empty where there are.
    stale: every param that is no longer what the numbers were made with: ``recipe.epochs 24 -> 48``.
    machines: by work done ("training, seed 0", "features" ...) those that took part; params: the sets of params it was made with.
    metrics: the task's metrics of each split by seed (as text), as ``evaluate`` wrote them.
    last_epoch, best_test_epoch: the headline on test by seed, were the epoch chosen so: what papers print. Empty unless the run was trained
        with ``train.published_protocol``.
    missing: by split, ids of labelled clips without features; evaluated: by split, annotation rows scored; in_train: test rows
        whose clip stands in train as well.
    seconds: wall time of training each seed, where this machine trained these very weights; device: on what.
    """

    name: str
    run: Run
    headline: str = ""
    parameters: int = 0
    scores: list[float] = field(default_factory=list)
    last_epoch: list[float] = field(default_factory=list)
    best_test_epoch: list[float] = field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    evaluated: dict[str, int] = field(default_factory=dict)
    in_train: int = 0
    seconds: list[float] = field(default_factory=list)
    device: str = ""
    directory: Path | None = None
    absent: str = ""
    stale: list[str] = field(default_factory=list)
    machines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    params: list[dict[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The run's name, marked where its numbers are old."""
        return f"{self.name} (stale)" if self.stale else self.name

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for a single seed, which says nothing about spread."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None

    @property
    def best_seed(self) -> int:
        return self.run.seeds[int(np.argmax(self.scores))]

    @property
    def shown_seed(self) -> int:
        """The seed whose score is nearest to the mean, the first of equals: the one to show where only one can be."""
        return self.run.seeds[int(np.argmin(np.abs(np.array(self.scores) - self.mean)))]

    def values_of(self, metric: str, split: str = "test") -> list[float]:
        """Another metric by seed, where it is defined."""
        values = (metrics.get(metric) for metrics in self.metrics.get(split, {}).values())
        return [float(value) for value in values if isinstance(value, int | float)]

    def mean_of(self, metric: str, split: str = "test") -> float | None:
        """Mean over seeds of another metric; None where it is not defined."""
        defined = self.values_of(metric, split)
        return float(np.mean(defined)) if defined else None


def read_run(name: str, run: Run, directory: Path, live: Path, today: Mapping[str, Any] | None = None) -> RunResult:
    """The result of one run; without scores unless every seed of the run, as it is set now, has been evaluated.

    Args:
        today: the params that would make the run now, as :mod:`pipeline.made_with` writes them; None compares nothing.
    """
    path = directory / "metrics.json"
    result = RunResult(name, run)
    if not path.is_file():
        result.absent = f"not evaluated; `dvc repro evaluate@{name}` runs it"
        return result
    document = read_sealed(path)
    if (stated := document.get("curves")) is not None:
        with intact(directory / "curves.csv"):
            if file_sha256(directory / "curves.csv") != stated:
                raise ValueError("what it holds is not what was written")
    result.absent = why_another(document, run)
    if result.absent:
        return result
    result.headline, result.parameters, result.directory = document["headline"], document["parameters"], directory
    result.metrics = document["seeds"]
    result.missing = {split: counts["without features"] for split, counts in document["clips"].items()}
    result.evaluated = {split: counts["evaluated"] for split, counts in document["clips"].items()}
    result.in_train = document["clips"].get("test", {}).get("in train", 0)
    of_test = document["seeds"].get("test", {})
    result.scores = [float(of_test[str(seed)][result.headline]) for seed in run.seeds] if of_test else []
    result.last_epoch, result.best_test_epoch = other_epochs(directory / "curves.csv", run.seeds, result.headline)
    result.seconds, result.device = training_times(run.seeds, document.get("weights", {}), live)
    made_with = document.get("made_with", {})
    result.machines = machines_by_work(made_with.get("machines", {}), run.seeds)
    result.params = made_with.get("params", [])
    result.stale = changes_since(result.params, today or {})
    return result


def why_another(document: Mapping[str, Any], run: Run) -> str:
    """Why what was evaluated is not the run as it is set now; empty where it is. A split without clips has no seeds of its own."""
    then, now = ((one["task"], one["method"], one["features"]) for one in (document, vars(run)))
    if then != now:
        return f"evaluated as {' / '.join(then)}, set to {' / '.join(now)} since; `dvc repro` runs it"
    seeds = {seed for by_seed in document["seeds"].values() for seed in by_seed}
    wanted = {str(seed) for seed in run.seeds}
    if lacking := sorted(wanted - seeds, key=int):
        return f"seed{'s' if len(lacking) > 1 else ''} {', '.join(lacking)} not evaluated; `dvc repro` runs what is missing"
    if dropped := sorted(seeds - wanted, key=int):
        return f"evaluated with seed{'s' if len(dropped) > 1 else ''} {', '.join(dropped)} as well, no longer set; `dvc repro` runs it"
    return ""


def changes_since(made_with: list[dict[str, Any]], today: Mapping[str, Any]) -> list[str]:
    """Each param once that differs between any of the sets a run was made with and today's."""
    return list(dict.fromkeys(line for params in made_with for line in changed_params(params, today))) if today else []


def machines_by_work(machines: Mapping[str, Any], seeds: list[int]) -> dict[str, list[dict[str, Any]]]:
    """Machines by work done, every seed's training a work of its own; of runs of an earlier version the training is of the unknown one."""
    training = machines.get("training", {})
    of_seeds = {f"training, seed {seed}": training.get(str(seed)) or [UNKNOWN] for seed in seeds}
    of_inputs = {work: found for work, found in machines.items() if work not in ("training", "evaluation")}
    return {**of_inputs, **of_seeds, **({"evaluation": machines["evaluation"]} if "evaluation" in machines else {})}


def other_epochs(curves: Path, seeds: list[int], headline: str) -> tuple[list[float], list[float]]:
    """(test headline of every seed's last epoch, of its best on test); ([], []) where test was not scored after every epoch."""
    table = pd.read_csv(curves) if curves.is_file() else pd.DataFrame(columns=["seed"])
    column = f"test/{headline}"
    if column not in table or table[column].isna().any():
        return [], []
    by_seed = [table.loc[table["seed"] == seed].sort_values("epoch")[column] for seed in seeds]
    return [float(values.iloc[-1]) for values in by_seed], [float(values.max()) for values in by_seed]


def training_times(seeds: list[int], weights: dict[str, str], live: Path) -> tuple[list[float], str]:
    """(seconds of every seed, device); ([], "") unless all were measured here and made exactly the weights that were evaluated."""
    times = []
    for seed in seeds:
        path = live / f"seed-{seed}" / "time.json"
        facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if facts.get("weights") != weights.get(str(seed), ""):
            return [], ""
        times.append(facts)
    return [facts["seconds"] for facts in times], " and ".join(sorted({facts["device"] for facts in times}))


def read_runs(runs: dict[str, Run], results: Path, live: Path, today: Mapping[str, Mapping[str, Any]] | None = None) -> list[RunResult]:
    """All runs, in the order of ``runs``; ``live`` is the directory of the live metrics, which keeps the training times.

    Args:
        today: by run, as :func:`read_run` takes it.
    """
    return [read_run(name, run, results / name, live / name, (today or {}).get(name)) for name, run in runs.items()]


def lines_of_test(result: RunResult) -> pd.DataFrame:
    """What the task compares runs by: the predictions on test of every seed."""
    assert result.directory is not None
    columns = ["row", "seed", *TASKS.get(result.run.task).COMPARED]
    return read_table(result.directory / "predictions.parquet", columns=columns, filters=[("split", "==", "test")])


def validation_curves(results: list[RunResult]) -> pd.DataFrame:
    """run, epoch, value: the headline metric on validation, mean over seeds."""
    frames = []
    for result in results:
        path = result.directory / "curves.csv" if result.directory else None
        column = f"val/{result.headline}"
        if path and path.is_file() and column in (curves := pd.read_csv(path)).columns:
            means = curves.groupby("epoch")[column].mean()
            frames.append(pd.DataFrame({"run": result.label, "epoch": means.index, "value": means.round(3).to_numpy()}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run", "epoch", "value"])
