"""``ablations``: queue the runs of an ablation suite as DVC experiments, and print the papers' tables of what has run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options import add_tables, key_values, put
from pipeline.commands.use import find, kept_as
from pipeline.errors import PipelineError


def add(commands: Any) -> None:
    parser = commands.add_parser("ablations", help="queue the runs of a suite as DVC experiments; --table prints the papers' tables")
    parser.add_argument("suite", metavar="SUITE", help="a name in suites/, such as ave-ablations, or the path of a params file")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs of the suite (default: all)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="settings that differ from the suite's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="K", help="seeds of every run, in place of the suite's")
    parser.add_argument("--name", default="", metavar="PREFIX", help="of the experiments' names, PREFIX-RUN (default: the suite's name)")
    parser.add_argument("--table", action="store_true", help="print one table for each of the papers', of the experiments that have run")
    add_tables(parser, "ablations", "--table")
    parser.set_defaults(command=ablations)


def ablations(arguments: argparse.Namespace) -> None:
    from pipeline.ablations import Ablations  # imports torch

    if arguments.table and (arguments.set or arguments.seeds):
        raise PipelineError("--table shows experiments as they ran and names what differs from the suite; leave out --set and --seeds")
    suite = find(arguments.suite)
    chosen = Ablations.of(suite, arguments.name, arguments.runs, key_values(arguments.set), arguments.seeds)
    if arguments.table:
        _print_tables(chosen, arguments)
        return
    kept_as()  # refuses to go on with a params.yaml that a kill might lose
    for line in chosen.queue(Path.cwd()):
        print(line, flush=True)
    named = f" --name {arguments.name}" if arguments.name else ""
    print(f"run them: dvc queue start --jobs 1; then: python -m pipeline ablations {arguments.suite}{named} --table")


def _print_tables(chosen: Any, arguments: argparse.Namespace) -> None:
    from pipeline.report.formats import markdown

    tables, remark = chosen.tables(Path.cwd(), arguments.commits)
    text = "\n".join([*(f"### {title}\n\n{markdown(table)}" for title, table in tables.items()), *([remark] if remark else [])])
    put(text, arguments)
