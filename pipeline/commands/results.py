"""``results``: make the tables of docs/results/ again, each suite in a clone of its own, or check them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.errors import InputProblems, PipelineError

DIRECTORY = Path("build/results")


def add(commands: Any) -> None:
    parser = commands.add_parser("results", help="make the tables of docs/results/ again, or check them")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="names in suites/; default: all with a page, or meant to have one")
    parser.add_argument(
        "--directory", type=Path, default=DIRECTORY, metavar="DIR",
        help=f"where the clones lie, one for each suite (default {DIRECTORY}, which git ignores)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds-at-once", type=int, metavar="N", help="train N seeds of a run side by side, whatever the suites say; changes no number"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--collect", action="store_true", help="write the pages of clones that are finished; run nothing")
    what.add_argument("--mark", action="store_true", help="write into each page whether it is of today's code and settings; run nothing")
    what.add_argument("--check", action="store_true", help="say which pages are of older code or settings, or edited; write nothing")
    parser.set_defaults(command=results)


def results(arguments: argparse.Namespace) -> None:
    if arguments.check:
        check()
        return
    from pipeline.closure import ROOT
    from pipeline.results.suites import SUITES, suite_file
    from pipeline.results.written import mark

    if arguments.seeds_at_once is not None and arguments.seeds_at_once < 1:
        raise InputProblems("options", [f"--seeds-at-once: at least 1 is needed (here: {arguments.seeds_at_once})"])
    for suite in arguments.suites:
        suite_file(suite, ROOT)
    failed: list[str] = []
    if not arguments.mark:
        failed = (collect if arguments.collect else make)(arguments.suites or list(SUITES), bool(arguments.suites), arguments)
    mark(ROOT)
    if failed:
        raise PipelineError("\n".join(failed))


def make(suites: list[str], named: bool, arguments: argparse.Namespace) -> list[str]:
    """Run suites one after another and write the page of each; returns a sentence for each that failed.

    Args:
        named: whether the user named them; others may lack data that is no part of the project.
    """
    from pipeline.closure import ROOT
    from pipeline.results.clones import check_committed, only_call, prepare, repro
    from pipeline.results.suites import MAY_LACK_DATA, missing
    from pipeline.results.written import take

    check_committed(ROOT)
    failed = []
    for suite in suites:
        if lacking := missing(suite, ROOT):
            sentence = "\n".join([f"{suite}: not made", *(f"  - {problem}" for problem in lacking)])
            if named or suite not in MAY_LACK_DATA:
                failed.append(sentence)
            else:
                print(sentence, flush=True)
            continue
        clone = arguments.directory / suite
        try:
            with only_call(clone) as lock:
                print(f"{suite}: in {clone}", flush=True)
                prepare(suite, clone, ROOT, arguments.seeds_at_once)
                repro(clone, lock)
                print(f"{suite}: {take(suite, clone, ROOT)}", flush=True)
        except PipelineError as error:
            failed.append(f"{suite}: {error}; the same command goes on from there")
    return failed


def collect(suites: list[str], named: bool, arguments: argparse.Namespace) -> list[str]:
    """Write the pages of suites whose clones are finished; returns a sentence for each named one that is not."""
    from pipeline.closure import ROOT
    from pipeline.results.clones import unfinished
    from pipeline.results.written import take

    failed = []
    for suite in suites:
        clone = arguments.directory / suite
        if reason := unfinished(clone):
            if named:
                failed.append(f"{suite}: {reason}")
            else:
                print(f"{suite}: not taken: {reason}", flush=True)
        else:
            print(f"{suite}: {take(suite, clone, ROOT)}", flush=True)
    return failed


def check() -> None:
    """Print the age of every page.

    Raises:
        InputProblems: a page or a cut says something untrue.
    """
    from pipeline.results.written import check

    found = check()
    print("\n".join(found.ages) or "no page yet")
    if found.problems:
        raise InputProblems("docs/results", found.problems)
