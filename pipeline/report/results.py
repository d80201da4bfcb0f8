"""Read the results of each run for tables and figures, with reasons for missing ones and marks on stale ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.cache import file_sha256
from pipeline.datasets.arrays import MADE_BY
from pipeline.machine import UNKNOWN
from pipeline.made_with import NOTHING, changed_params
from pipeline.sealed import read_sealed
from pipeline.tables import intact, read_table
from pipeline.tasks import TASKS
from pipeline.training.members import members_of
from pipeline.training.settings import Run

FEATURES = "features.json"  # the spec of the features that a run was evaluated on


@dataclass
class RunResult:
    """One run of ``runs``.

    scores: headline metric on test, one value per seed, in the order of the run's seeds; empty without results or without test clips.
    absent: why the run has no numbers with its current settings; empty if it has them.
    stale: every param that has changed since the numbers were made: ``recipe.epochs 24 -> 48``.
    machines: the machines by work done ("training, seed 0", "features" ...); params: the sets of params it was made with.
    metrics: the task's metrics of each split by seed (as text), as ``evaluate`` wrote them.
    last_epoch, best_test_epoch: the headline on test by seed with the epoch chosen this way, as papers do. Empty unless the run was
        trained with ``train.published_protocol``.
    missing: by split, ids of labelled clips without features; evaluated: by split, annotation rows scored; in_train: test rows
        whose clip is also in train; films_and_windows: of test, where films are cut into several windows, else None.
    made_by: the command that made up the features' numbers; empty for features of pictures and sounds.
    dense_labels: how labels of segments, which weak training may not use, took part in the labels that the run learned from; else empty.
    segment_seconds: of the run's features; None if they do not say it.
    folds: of a cross-validation: ``number``, ``by``, ``groups`` (their count) and ``test``, the headline of each fold by seed; else empty.
    groups: by annotation row of test, the group of clips that share a source; None without folds.
    seconds: wall time of training each seed, if this machine trained exactly these weights; device: the device that trained them.
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
    films_and_windows: tuple[int, int] | None = None
    seconds: list[float] = field(default_factory=list)
    device: str = ""
    directory: Path | None = None
    made_by: str = ""
    dense_labels: str = ""
    segment_seconds: float | None = None
    absent: str = ""
    stale: list[str] = field(default_factory=list)
    machines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    params: list[dict[str, Any]] = field(default_factory=list)
    folds: dict[str, Any] = field(default_factory=dict)
    groups: pd.Series | None = None

    @property
    def label(self) -> str:
        """The run's name, marked if its numbers are stale, its features made up, or dense labels were used."""
        facts = {"stale": self.stale, "made features": self.made_by, "dense labels": self.dense_labels}
        marks = [mark for mark, fact in facts.items() if fact]
        return f"{self.name} ({', '.join(marks)})" if marks else self.name

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for a single seed."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None

    @property
    def best_seed(self) -> int:
        return self.run.seeds[int(np.argmax(self.scores))]

    @property
    def shown_seed(self) -> int:
        """The seed to show when only one can be: its score is nearest to the mean (first of equals)."""
        return self.run.seeds[int(np.argmin(np.abs(np.array(self.scores) - self.mean)))]

    def values_of(self, metric: str, split: str = "test") -> list[float]:
        """Values of another metric, one for each seed that has it."""
        values = (metrics.get(metric) for metrics in self.metrics.get(split, {}).values())
        return [float(value) for value in values if isinstance(value, int | float)]

    def mean_of(self, metric: str, split: str = "test") -> float | None:
        """Mean over seeds of another metric; None if no seed has it."""
        defined = self.values_of(metric, split)
        return float(np.mean(defined)) if defined else None


def read_run(name: str, run: Run, directory: Path, live: Path, today: Mapping[str, Any] | None = None) -> RunResult:
    """Read the result of one run; it has scores only if every seed was evaluated with the run's current settings.

    Args:
        today: the params that would make the run now, as :mod:`pipeline.made_with` writes them; None skips the comparison.
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
                raise ValueError("its content has changed since it was written")
    result.absent = why_another(document, run)
    if result.absent:
        return result
    result.headline, result.parameters, result.directory = document["headline"], document["parameters"], directory
    spec = read_sealed(directory / FEATURES) if (directory / FEATURES).is_file() else {}
    result.made_by, result.segment_seconds = spec.get(MADE_BY, ""), spec.get("segment_seconds")
    result.metrics = document["seeds"]
    result.missing = {split: counts["without features"] for split, counts in document["clips"].items()}
    result.evaluated = {split: counts["evaluated"] for split, counts in document["clips"].items()}
    result.in_train = document["clips"].get("test", {}).get("in train", 0)
    if "films" in (counts := document["clips"].get("test", {})):
        result.films_and_windows = counts["films"], counts["windows"]
    of_test = document["seeds"].get("test", {})
    result.scores = [float(of_test[str(seed)][result.headline]) for seed in run.seeds] if of_test else []
    if "folds" in document:
        result.folds = document["folds"]
        result.groups = pd.Series({int(row): group for row, group in document["groups"].items()})
    result.last_epoch, result.best_test_epoch = other_epochs(directory / "curves.csv", run.seeds, result.headline)
    folds = range(result.folds["number"]) if result.folds else None
    result.seconds, result.device = training_times(run.seeds, folds, document.get("weights", {}), live)
    made_with = document.get("made_with", {})
    result.machines = machines_by_work(made_with.get("machines", {}), run.seeds)
    result.params = made_with.get("params", [])
    if any(params.get("settings", {}).get("pseudo_labels") for params in result.params):
        result.dense_labels = spec.get("labels", {}).get("dense_labels", "")
    result.stale = changes_since(result.params, today or {})
    if today and "folds" in today and not result.folds:
        result.stale.append(f"folds.number {NOTHING} -> {today['folds']['number']}")
    return result


def why_another(document: Mapping[str, Any], run: Run) -> str:
    """Why the evaluated run is not the run as it is set now; empty if it is.

    A split without clips lists no seeds, so seeds are gathered over all splits.
    """
    then, now = ((one["task"], one["method"], one["features"]) for one in (document, vars(run)))
    if then != now:
        return f"evaluated as {' / '.join(then)}, now set to {' / '.join(now)}; `dvc repro` runs it"
    seeds = {seed for by_seed in document["seeds"].values() for seed in by_seed}
    wanted = {str(seed) for seed in run.seeds}
    if lacking := sorted(wanted - seeds, key=int):
        return f"seed{'s' if len(lacking) > 1 else ''} {', '.join(lacking)} not evaluated; `dvc repro` runs what is missing"
    if dropped := sorted(seeds - wanted, key=int):
        return f"evaluated with seed{'s' if len(dropped) > 1 else ''} {', '.join(dropped)}, no longer in its seeds; `dvc repro` runs it"
    return ""


def changes_since(made_with: list[dict[str, Any]], today: Mapping[str, Any]) -> list[str]:
    """The params that differ between today's and any of the sets a run was made with, each once."""
    return list(dict.fromkeys(line for params in made_with for line in changed_params(params, today))) if today else []


def machines_by_work(machines: Mapping[str, Any], seeds: list[int]) -> dict[str, list[dict[str, Any]]]:
    """Machines by work done, with the training of each seed apart; the unknown machine where none was recorded."""
    training = machines.get("training", {})
    of_seeds = {f"training, seed {seed}": training.get(str(seed)) or [UNKNOWN] for seed in seeds}
    of_inputs = {work: found for work, found in machines.items() if work not in ("training", "evaluation")}
    return {**of_inputs, **of_seeds, **({"evaluation": machines["evaluation"]} if "evaluation" in machines else {})}


def other_epochs(curves: Path, seeds: list[int], headline: str) -> tuple[list[float], list[float]]:
    """The test headline of each seed at (its last epoch, its best epoch on test).

    Returns ([], []) unless test was scored after every epoch.
    """
    table = pd.read_csv(curves) if curves.is_file() else pd.DataFrame(columns=["seed"])
    column = f"test/{headline}"
    if column not in table or table[column].isna().any():
        return [], []
    by_seed = [table.loc[table["seed"] == seed].sort_values("epoch")[column] for seed in seeds]
    return [float(values.iloc[-1]) for values in by_seed], [float(values.max()) for values in by_seed]


def training_times(seeds: list[int], folds: Iterable[int] | None, weights: dict[str, str], live: Path) -> tuple[list[float], str]:
    """Training times: (seconds of every seed, device); with folds, a seed's are those of all its networks.

    Returns ([], "") unless all were measured on this machine and produced exactly the weights that were evaluated.
    """
    seconds, devices = dict.fromkeys(seeds, 0.0), set()
    for member in members_of(seeds, folds):
        path = live / member.stem / "time.json"
        facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if facts.get("weights") != weights.get(member.key, ""):
            return [], ""
        seconds[member.seed] += facts["seconds"]
        devices.add(facts["device"])
    return list(seconds.values()), " and ".join(sorted(devices))


def read_runs(runs: dict[str, Run], results: Path, live: Path, today: Mapping[str, Mapping[str, Any]] | None = None) -> list[RunResult]:
    """Read all runs, in the order of ``runs``.

    Args:
        live: directory of the live metrics, which holds the training times.
        today: for each run, as :func:`read_run` takes it.
    """
    return [read_run(name, run, results / name, live / name, (today or {}).get(name)) for name, run in runs.items()]


def lines_of_test(result: RunResult) -> pd.DataFrame:
    """The columns of the test predictions that the task compares runs by, all seeds."""
    assert result.directory is not None
    columns = ["row", "seed", *TASKS.get(result.run.task).COMPARED]
    return read_table(result.directory / "predictions.parquet", columns=columns, filters=[("split", "==", "test")])


def clips_of_test(result: RunResult) -> int:
    """Count the clips that the test scores are of."""
    assert result.directory is not None
    table = read_table(result.directory / "predictions.parquet", columns=["clip"], filters=[("split", "==", "test")])
    return int(table["clip"].nunique())


def validation_curves(results: list[RunResult]) -> pd.DataFrame:
    """The headline metric on validation, mean over seeds; columns: run, epoch, value."""
    frames = []
    for result in results:
        path = result.directory / "curves.csv" if result.directory else None
        column = f"val/{result.headline}"
        if path and path.is_file() and column in (curves := pd.read_csv(path)).columns:
            means = curves.groupby("epoch")[column].mean()
            frames.append(pd.DataFrame({"run": result.label, "epoch": means.index, "value": means.round(3).to_numpy()}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run", "epoch", "value"])
