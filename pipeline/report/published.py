"""The papers' numbers, from published.yaml, each with its paper, table, row and column.

>>> load_published()["cace_net/AVE supervised"].value("accuracy")
80.8
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from ruamel.yaml import YAML

from pipeline.settings import Settings

PATH = Path(__file__).with_name("published.yaml")


class Paper(Settings):
    """A paper.

    protocol: how it chose and averaged the numbers it prints.
    epoch: the split that chose its epoch, if not validation.
    """

    name: str
    title: str
    venue: str
    protocol: str
    epoch: Literal["test"] | None = None


class PrintedRow(Settings):
    """One printed row.

    same_as: key of the row of another table that prints the same network.
    arithmetic: by metric, the value that follows from the others of the row, if the printed one does not.
    """

    key: str
    row: str
    same_as: str | None = None
    features: str | None = None
    cites: str | None = None
    values: list[float | None]
    arithmetic: dict[str, float] = Field({})
    note: str | None = None


class Gains(Settings):
    """Printed improvements ``of`` one row over the best of others, by metric.

    arithmetic: the right value of each misprint.
    """

    of: str
    over: list[str] = Field(min_length=1)
    printed: dict[str, float]
    arithmetic: dict[str, float] = Field({})
    note: str | None = None


class PrintedTable(Settings):
    """A printed table.

    columns: our name of a metric -> its printed column head, in the order of the rows' values.
    """

    paper: str
    table: str
    about: str
    dataset: str
    note: str | None = None
    columns: dict[str, str]
    rows: list[PrintedRow]
    gains: list[Gains] = Field([])

    @model_validator(mode="after")
    def _rows_fit_columns(self) -> PrintedTable:
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"table {self.table}, {row.key}: {len(row.values)} values for {len(self.columns)} columns")
        return self


class PublishedFile(Settings):
    papers: dict[str, Paper]
    tables: list[PrintedTable]


@dataclass(frozen=True)
class Published:
    """A published result to compare a run with: one printed row of one table."""

    paper: Paper
    table: PrintedTable
    row: PrintedRow

    @property
    def source(self) -> str:
        return f'{self.paper.name} ({self.paper.venue}), Table {self.table.table}, row "{self.row.row}"'

    @property
    def numbers(self) -> dict[str, float]:
        """Printed value by our name of the metric."""
        return {metric: value for metric, value in zip(self.table.columns, self.row.values, strict=True) if value is not None}

    @property
    def chosen_on_test(self) -> bool:
        """Whether the printed numbers are of the epoch that was best on test; unknown of methods that a paper quotes."""
        return self.paper.epoch == "test" and not self.row.cites

    def value(self, metric: str) -> float | None:
        return self.numbers.get(metric)

    def remarks(self) -> list[str]:
        """Notes for the reader: source, protocol, features, notes, misprints."""
        cited = f", citing {self.row.cites}" if self.row.cites else ""
        features = f" Features: {self.row.features}." if self.row.features else ""
        remarks = [f"{self.source}{cited}, {self.table.dataset}.{features}"]
        if not self.row.cites:  # the paper's protocol does not apply to methods it quotes
            remarks.append(f"{self.paper.name}: {self.paper.protocol}")
        wrong = [f"{metric} printed {self.value(metric):g}, by its own row {right:g}" for metric, right in self.row.arithmetic.items()]
        if wrong:
            remarks.append(f"{self.paper.name}, Table {self.table.table}, misprinted: {'; '.join(wrong)}.")
        return remarks + [note for note in (self.row.note,) if note]


@cache
def read_published_file() -> PublishedFile:
    return PublishedFile.model_validate(YAML(typ="safe").load(PATH.read_text(encoding="utf-8")))


@cache
def load_published() -> dict[str, Published]:
    """Every printed row by its key."""
    content = read_published_file()
    return {row.key: Published(content.papers[table.paper], table, row) for table in content.tables for row in table.rows}
