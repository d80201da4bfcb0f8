"""Which machines made the numbers, and which numbers are older than params.yaml: sentences for the table, and a file.

Different kinds of work may run on different machines (features on a GPU, training on a laptop) without spoiling a comparison. One kind of
work spread over several machines does spoil it, whether by seed, by run or by clip. The version of this project is named and not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.machine import PROJECT, Machine, joined, told_apart, without_project
from pipeline.made_with import publishable
from pipeline.report.results import RunResult, changes_since
from pipeline.sealed import read_sealed, write_sealed
from pipeline.training.settings import Run

FILE = "provenance.json"
MIXED = (
    "The runs mix machines: equal digits can be expected only on the same processor, with the same versions and threads."
    " The notes name the machine of each run"
)


class Provenance:
    """The machines of all runs together."""

    def __init__(self, results: list[RunResult]) -> None:
        self._by_kind: dict[str, list[dict[str, Any]]] = {}
        self._versions: dict[str, dict[str, None]] = {}  # of this project, by kind of work
        for result in results:
            for work, machines in result.machines.items():
                kind = kind_of(work)
                self._by_kind[kind] = joined(self._by_kind.get(kind, []), *map(without_project, machines))
                stated = (machine.get("versions", {}).get(PROJECT) for machine in machines)
                self._versions.setdefault(kind, {}).update(dict.fromkeys(version for version in stated if version))
        every = joined([machine for machines in self._by_kind.values() for machine in machines])
        self._texts = list(zip(every, told_apart(every), strict=True))

    @property
    def mixed(self) -> list[str]:
        """Kinds of work done on more than one machine."""
        return [kind for kind, machines in self._by_kind.items() if len(machines) > 1]

    def sentence(self) -> str:
        """The line below the table: the machine, and the version of this project; empty if no run has results."""
        versions = {kind: f"{PROJECT} {' and '.join(stated)}" if stated else "" for kind, stated in self._versions.items()}
        made_by = f" Made by: {named}." if (named := _by_text(versions)) else ""
        if self.mixed:
            return f"{MIXED} ({', '.join(self.mixed)}).{made_by}"
        machines = _by_text({kind: self._text(machines[0]) for kind, machines in self._by_kind.items() if machines})
        return f"Made on: {machines}.{made_by}" if machines else ""

    def remarks(self, result: RunResult) -> Iterator[str]:
        """A run's notes: which machine did its share of each kind of work that is spread over machines."""
        for kind in self.mixed:
            works = {work: machines for work, machines in result.machines.items() if kind_of(work) == kind}
            if not works:
                continue
            once = {work: joined([without_project(machine) for machine in machines]) for work, machines in works.items()}
            texts = {work: " and ".join(map(self._text, machines)) for work, machines in once.items()}
            if len(set(texts.values())) == 1:
                yield f"{kind.capitalize()} on {next(iter(texts.values()))}."
            else:
                by_text = {text: [work for work in works if texts[work] == text] for text in texts.values()}
                parts = [f"{', '.join(w.removeprefix(f'{kind}, ') for w in of_text)} on {text}" for text, of_text in by_text.items()]
                yield f"{kind.capitalize()} mixed: {'; '.join(parts)}."

    def _text(self, machine: Machine) -> str:
        return next(text for known, text in self._texts if known == machine)


def _by_text(texts: Mapping[str, str]) -> str:
    """Join the texts of the kinds of work, each once, with its kinds in brackets unless all have the same.

    Empty ones are left out.
    """
    kinds = {text: ", ".join(kind for kind in texts if texts[kind] == text) for text in texts.values()}
    return "; ".join(f"{text} ({done})" if len(kinds) > 1 else text for text, done in kinds.items() if text)


def kind_of(work: str) -> str:
    """The kind of a work, without its seed: ``training`` for ``training, seed 0``."""
    return work.split(", ")[0]


def stale_remark(result: RunResult) -> Iterator[str]:
    """Name the params that have changed since a run's numbers were made."""
    if result.stale:
        yield f"stale: params differ: {', '.join(result.stale)}; `dvc repro` runs it again."


def write_provenance(results: list[RunResult], directory: Path) -> None:
    """Write ``provenance.json``: for each run why it is absent, what is stale, its machines and params."""
    runs = {
        result.name: {
            "run": result.run.model_dump(mode="json"), "absent": result.absent, "stale": result.stale, "machines": result.machines,
            "params": publishable(result.params),
        }
        for result in results
    }  # fmt: skip
    document = {"machines": Provenance(results).sentence(), "mixed": Provenance(results).mixed, "runs": runs}
    write_sealed(directory / FILE, document)


def news(directory: Path, runs: Mapping[str, Run], today: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Differences between today's params.yaml and the report in ``directory``, one sentence per run.

    Args:
        today: for each run, the params that would make it now.
    """
    path = directory / FILE
    if not path.is_file():
        return ["the report does not record what it was made with (an earlier version wrote it); `dvc repro` writes it again"]
    told = read_sealed(path)["runs"]
    lines = [f"{name}: no longer in params.yaml" for name in told if name not in runs]
    for name, run in runs.items():
        if name not in told:
            lines.append(f"{name}: not in the table yet")
            continue
        before = told[name]["run"]
        found = [f"{key} {before[key]} -> {value}" for key, value in run.model_dump(mode="json").items() if before[key] != value]
        found = [line for line in found if not line.startswith("overrides ")]  # changes_since lists them setting by setting
        if now := [*found, *changes_since(told[name]["params"], today[name])]:
            if sorted(now) != sorted(told[name]["stale"]):
                lines.append(f"{name}: stale: params differ: {', '.join(now)}")
        elif told[name]["stale"]:
            lines.append(f"{name}: no longer stale; params.yaml has the settings it was made with again")
    return lines


def read_sentence(directory: Path) -> tuple[str, list[str], dict[str, list[str]]]:
    """Read from a report (sentence on machines, kinds of work that mix machines, stale params by run).

    Returns ("", [], {}) if there is no report.
    """
    path = directory / FILE
    if not path.is_file():
        return "", [], {}
    document = read_sealed(path)
    return document["machines"], document["mixed"], {name: run["stale"] for name, run in document["runs"].items() if run["stale"]}
