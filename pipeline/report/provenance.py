"""Which machines made the numbers of a table, and which numbers are older than params.yaml: sentences for the table, and a file of it all.

Runs may do one work here and another there (features on a GPU, training on a laptop) and still compare. What does not is one work done on
several machines: of some seeds, some runs, or some clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.machine import Machine, joined, told_apart
from pipeline.made_with import publishable
from pipeline.report.results import RunResult, changes_since
from pipeline.sealed import read_sealed, write_sealed
from pipeline.training.settings import Run

FILE = "provenance.json"
MIXED = (
    "The runs mix machines: equal digits can be expected only on the same processor, with the same versions and threads."
    " Which made what stands in the notes"
)


class Provenance:
    """The machines of all runs together."""

    def __init__(self, results: list[RunResult]) -> None:
        self._by_kind: dict[str, list[dict[str, Any]]] = {}
        for result in results:
            for work, machines in result.machines.items():
                kind = kind_of(work)
                self._by_kind[kind] = joined(self._by_kind.get(kind, []), *machines)
        every = joined([machine for machines in self._by_kind.values() for machine in machines])
        self._texts = list(zip(every, told_apart(every), strict=True))

    @property
    def mixed(self) -> list[str]:
        """Kinds of work that more than one machine did."""
        return [kind for kind, machines in self._by_kind.items() if len(machines) > 1]

    def sentence(self) -> str:
        """One line below the table; empty where no run has results."""
        if self.mixed:
            return f"{MIXED} ({', '.join(self.mixed)})."
        texts = {kind: self._text(machines[0]) for kind, machines in self._by_kind.items() if machines}
        kinds = {text: ", ".join(kind for kind in texts if texts[kind] == text) for text in texts.values()}
        parts = [f"{text} ({done})" if len(kinds) > 1 else text for text, done in kinds.items()]
        return f"Made on: {'; '.join(parts)}." if parts else ""

    def remarks(self, result: RunResult) -> Iterator[str]:
        """A run's notes: of each work that the table's runs share out among machines, which did this run's."""
        for kind in self.mixed:
            works = {work: machines for work, machines in result.machines.items() if kind_of(work) == kind}
            if not works:
                continue
            texts = {work: " and ".join(self._text(machine) for machine in machines) for work, machines in works.items()}
            if len(set(texts.values())) == 1:
                yield f"{kind.capitalize()} on {next(iter(texts.values()))}."
            else:
                by_text = {text: [work for work in works if texts[work] == text] for text in texts.values()}
                parts = [f"{', '.join(w.removeprefix(f'{kind}, ') for w in of_text)} on {text}" for text, of_text in by_text.items()]
                yield f"{kind.capitalize()} mixed: {'; '.join(parts)}."

    def _text(self, machine: Machine) -> str:
        return next(text for known, text in self._texts if known == machine)


def kind_of(work: str) -> str:
    """``training`` of ``training, seed 0``: the same work, whichever seed it was done for."""
    return work.split(", ")[0]


def stale_remark(result: RunResult) -> Iterator[str]:
    """What has changed in params.yaml since the numbers of a run were made."""
    if result.stale:
        yield f"stale: params differ: {', '.join(result.stale)}; `dvc repro` makes the run anew."


def write_provenance(results: list[RunResult], directory: Path) -> None:
    """``provenance.json``: by run why it is absent, what is stale, its machines and params."""
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
    """What params.yaml says today and the report in ``directory`` does not know yet, one sentence a run.

    Args:
        today: by run, the params that would make it now.
    """
    path = directory / FILE
    if not path.is_file():
        return ["the report does not say what it was made with (an earlier version wrote it); `dvc repro` makes it anew"]
    told = read_sealed(path)["runs"]
    lines = [f"{name}: no longer in params.yaml" for name in told if name not in runs]
    for name, run in runs.items():
        if name not in told:
            lines.append(f"{name}: not in the table yet")
            continue
        before = told[name]["run"]
        found = [f"{key} {before[key]} -> {value}" for key, value in run.model_dump(mode="json").items() if before[key] != value]
        found = [line for line in found if not line.startswith("overrides ")]  # told below, setting by setting
        if now := [*found, *changes_since(told[name]["params"], today[name])]:
            if sorted(now) != sorted(told[name]["stale"]):
                lines.append(f"{name}: stale: params differ: {', '.join(now)}")
        elif told[name]["stale"]:
            lines.append(f"{name}: no longer stale; params.yaml is again what it was made with")
    return lines


def read_sentence(directory: Path) -> tuple[str, list[str], dict[str, list[str]]]:
    """(the sentence on machines, kinds of work that mix them, by run what was stale) of a report; ("", [], {}) where there is none."""
    path = directory / FILE
    if not path.is_file():
        return "", [], {}
    document = read_sealed(path)
    return document["machines"], document["mixed"], {name: run["stale"] for name, run in document["runs"].items() if run["stale"]}
