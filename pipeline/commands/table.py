"""``table``: print the results table or a table of DVC experiments, or put it into a text file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options import add_tables, put
from pipeline.errors import PipelineError
from pipeline.project import elsewhere

REPORT = Path("data/results/report")


def add(commands: Any) -> None:
    parser = commands.add_parser("table", help="print the results table")
    parser.add_argument("--experiments", metavar="PATTERN", help="show the DVC experiments with matching names instead, e.g. 'abl-*'")
    add_tables(parser, "results", "--experiments")
    parser.set_defaults(command=table)


def table(arguments: argparse.Namespace) -> None:
    text = experiments(arguments.experiments, arguments.commits) if arguments.experiments else results()
    put(text, arguments)
    if not arguments.experiments and not arguments.into:
        print(f"Page:    {REPORT / 'index.html'}")
        print(f"Cards:   {REPORT / 'runs'}/RUN/README.md")
        print(f"Figures: {REPORT / 'runs.png'}, {REPORT / 'curves.png'}")
        print(f"Table:   {REPORT / 'table.md'}, {REPORT / 'table.tex'}, {REPORT / 'table.csv'}")


def results() -> str:
    """The table of the last report, and the changes in params.yaml since."""
    path = REPORT / "table.md"
    if not path.is_file():
        raise PipelineError(elsewhere(Path.cwd()) or f"{path} does not exist yet; `dvc repro` makes it")
    from pipeline.today import news_since_report  # imports torch

    lines = [f"- {line}\n" for line in news_since_report(Path.cwd())]
    return path.read_text(encoding="utf-8") + ("\nSince this table was made:\n\n" + "".join(lines) if lines else "")


def experiments(pattern: str, commits: int) -> str:
    """The table of the DVC experiments with names matching ``pattern``."""
    from pipeline.experiments import experiments_table, read_experiments
    from pipeline.report.formats import markdown

    return markdown(experiments_table(read_experiments(Path.cwd(), commits), pattern))
