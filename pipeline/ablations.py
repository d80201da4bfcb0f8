"""An ablation suite as DVC experiments, one a run: queued by one command, and collected for the papers' tables.

Each experiment has a params.yaml of its own, with one run in it. What all of them share (the import of the features) is done by the first;
the others get it from DVC's cache.
"""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import config
from pipeline.errors import InputProblems, PipelineError
from pipeline.experiments import Experiment, flat, read_experiments
from pipeline.publish import write_text
from pipeline.registry import suggest
from pipeline.report.ablations import ablation_tables
from pipeline.report.results import RunResult, read_run
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import Table
from pipeline.scratch import Scratch
from pipeline.training.settings import Run
from pipeline.yaml_files import parsed, read_yaml

PARAMS = Path("params.yaml")
RESULTS = "data/results/runs"
NO_NUMBER = ("report", "cache", "machine")  # blocks that change no number
MISSING = "not set"


@dataclass(frozen=True)
class Ablations:
    """The runs of a suite as experiments.

    suite: path of the suite; content: its settings, with the user's changes.
    prefix: of the experiments' names, before the run's.
    runs: the chosen runs.
    """

    suite: Path
    content: dict[str, Any]
    prefix: str
    runs: list[str]

    @classmethod
    def of(
        cls, suite: Path, prefix: str = "", runs: Sequence[str] = (), changes: Mapping[str, Any] | None = None,
        seeds: Sequence[int] = (),
    ) -> Ablations:  # fmt: skip
        """Read a suite and apply changes to it.

        Args:
            prefix: by default the suite's name.
            runs: names of its runs; none: all.
            changes: by dotted path, such as ``methods.cace_net.recipe.epochs``.
            seeds: for all runs; none: the suite's.

        Raises:
            InputProblems: unknown runs, or every fault of the changed settings.
        """
        content = read_yaml(suite)
        for path, value in (changes or {}).items():
            _set(content, path, value)
        if seeds:
            for run in content["runs"].values():
                run["seeds"] = list(seeds)
        if unknown := [f"unknown run {run!r}{suggest(run, content['runs'])}" for run in runs if run not in content["runs"]]:
            raise InputProblems(str(suite), unknown)
        with Scratch("avel-ablations-") as scratch:
            (scratch / PARAMS).write_text(_dumped(content), encoding="utf-8")
            try:
                config.load(scratch / PARAMS)
            except InputProblems as error:
                raise InputProblems(f"{suite}, as changed", error.problems) from None
        return cls(suite, content, prefix or suite.stem, list(runs) or list(content["runs"]))

    def experiment(self, run: str) -> str:
        """Name of a run's experiment."""
        return f"{self.prefix}-{run}"

    def params(self, run: str) -> dict[str, Any]:
        """The params.yaml of a run's experiment."""
        return one_run(self.content, run)

    def queue(self, root: Path) -> Iterator[str]:
        """Queue the experiment of every chosen run that has none yet on today's commit; yield what was done.

        The project's params.yaml is the experiment's for the moment that DVC takes it, so whoever calls this makes sure that nothing is
        lost if the process is killed then.

        Raises:
            InputProblems: experiments of these names have other settings.
            PipelineError: DVC refuses one; with its own message.
        """
        known = {experiment.name: experiment for family in read_experiments(root, 1) for experiment in family.experiments}
        if problems := [problem for run in self.runs if (problem := self._conflict(run, known.get(self.experiment(run))))]:
            raise InputProblems(f"experiments of {self.suite}", problems)
        for run in self.runs:
            name = self.experiment(run)
            if name in known:
                again = f"; to try it again: dvc queue remove {name}, then this command" if known[name].state == "failed" else ""
                yield f"{name}: {known[name].state}{again}"
                continue
            with _params(root, _dumped(self.params(run))):
                command = [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name]
                done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
            if done.returncode:
                raise PipelineError(f"{name}: dvc exp run --queue failed: {done.stderr.strip() or done.stdout.strip()}")
            yield f"{name}: queued"

    def _conflict(self, run: str, experiment: Experiment | None) -> str:
        """What differs between an experiment that is there and the one to queue; empty if nothing does."""
        if experiment is None or not experiment.params:  # DVC reports no params of a failed experiment
            return ""
        wanted = dict(flat(self.params(run)))
        differing = [path for path, value in experiment.params.items() if wanted.get(path, MISSING) != value]
        if not differing:
            return ""
        return (
            f"{experiment.name} is there with another {', '.join(differing[:3])}; give other names by --name, or remove it:"
            f" dvc {'queue' if experiment.state == 'queued' else 'exp'} remove {experiment.name}"
        )

    def tables(self, root: Path, commits: int) -> tuple[dict[str, Table], str]:
        """The papers' tables from the finished experiments of the last ``commits`` commits, the newest first, by title.

        Returns:
            The tables, and a sentence on settings of these experiments that differ from the suite's; empty if none do.

        Raises:
            PipelineError: DVC fails; with its own message.
        """
        known: dict[str, Experiment] = {}
        for family in read_experiments(root, commits):
            for experiment in family.experiments:
                known.setdefault(experiment.name, experiment)
        results, states, done, departures = list[RunResult](), dict[str, str](), list[str](), dict[str, list[str]]()
        with Scratch("avel-ablations-") as scratch:
            for run in self.runs:
                found = known.get(self.experiment(run))
                made = self.params(run)
                if found is not None and found.state == "done":
                    made = fetched(root, found.rev, run, scratch)
                    done.append(run)
                    for line in departures_from(one_run(read_yaml(self.suite), run), made, run):
                        departures.setdefault(line, []).append(run)
                results.append(read_run(run, Run.model_validate(made["runs"][run]), scratch / run, scratch / "none"))
                states[run] = "not queued" if found is None else found.state
            tables = ablation_tables(results, states, ReportSettings.model_validate(self.content["report"]))
        lines = [line if runs == done else f"{line} of {', '.join(runs)}" for line, runs in departures.items()]
        return tables, f"Settings that differ from {self.suite} (there in brackets): {'; '.join(lines)}.\n" if lines else ""


def one_run(content: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The settings of a suite with one of its runs, and without what its report says of others."""
    kept = copy.deepcopy(dict(content))
    kept["runs"] = {run: kept["runs"][run]}
    report = kept["report"]
    for block in ("papers", "dense_labels", "notes"):
        if block in report:
            report[block] = {name: value for name, value in report[block].items() if name == run}
    kept["report"] = {key: value for key, value in report.items() if key not in ("baseline", "baselines", "comparisons", "shown")}
    return kept


def fetched(root: Path, rev: str, run: str, directory: Path) -> dict[str, Any]:
    """Copy the results of an experiment's run to ``directory/run`` from DVC's cache; return the experiment's params.

    Raises:
        PipelineError: they are no longer there.
    """
    from dvc.api import DVCFileSystem  # slow to import
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(str(root), rev=rev)
        files.get(f"{RESULTS}/{run}", str(directory / run), recursive=True)
        return parsed(files.read_text(str(PARAMS), encoding="utf-8"))
    except (DvcException, OSError) as error:
        raise PipelineError(f"the results of {run} in experiment {rev[:7]} cannot be read ({error}); queue it again") from error


def departures_from(suite: Mapping[str, Any], made: Mapping[str, Any], run: str) -> Iterator[str]:
    """Settings of an experiment that differ from the suite's, with those in brackets."""
    before, after = (dict(flat({key: value for key, value in one.items() if key not in NO_NUMBER})) for one in (suite, made))
    for path in dict.fromkeys([*before, *after]):
        if before.get(path, MISSING) != after.get(path, MISSING):
            named = path.replace(f"runs.{run}.", "runs.RUN.", 1)
            yield f"{named} {after.get(path, MISSING)} ({before.get(path, MISSING)})"


def _set(content: dict[str, Any], path: str, value: Any) -> None:
    """Set a value by its dotted path; blocks on the way that the suite leaves out are made."""
    *blocks, name = path.split(".")
    for block in blocks:
        inner = content.setdefault(block, {})
        if not isinstance(inner, dict):
            raise InputProblems("options", [f"--set {path}: {block} is a value and holds no further settings"])
        content = inner
    content[name] = value


def _dumped(content: Mapping[str, Any]) -> str:
    yaml, text = YAML(typ="safe"), io.StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # the suite's order
    yaml.dump(dict(content), text)
    return text.getvalue()


@contextmanager
def _params(root: Path, text: str) -> Iterator[None]:
    """Put another params.yaml in place for the block."""
    path = root / PARAMS
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    write_text(path, text)
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            write_text(path, before)
