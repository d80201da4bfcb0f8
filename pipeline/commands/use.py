"""``use``: make a suite the active params.yaml, and lose no edits."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.project import elsewhere
from pipeline.publish import write_text
from pipeline.registry import suggest
from pipeline.text import read_text

PARAMS, SUITES = Path("params.yaml"), Path("suites")


def add(commands: Any) -> None:
    parser = commands.add_parser("use", help="copy a suite over params.yaml, unless edits would be lost")
    parser.add_argument("suite", metavar="SUITE", help="a name in suites/, such as demo, or the path of a params file")
    parser.set_defaults(command=use)


def use(arguments: argparse.Namespace) -> None:
    suite = find(arguments.suite)
    if PARAMS.is_file() and PARAMS.read_bytes() == suite.read_bytes():
        print(f"{PARAMS} is the same as {suite}")
        return
    before = kept_as()
    write_text(PARAMS, read_text(suite))
    print(f"{suite} copied to {PARAMS}" + (f", which was {before}" if before else ""))


def find(suite: str) -> Path:
    """The file of a suite, by its name in suites/ or its path.

    Raises:
        PipelineError: there is no such file; with the nearest name.
    """
    for path in (SUITES / f"{suite}.yaml", Path(suite)):
        if path.is_file():
            return path
    if not SUITES.is_dir() and (advice := elsewhere(Path.cwd())):
        raise PipelineError(advice)
    raise PipelineError(f"no suite {suite!r}{suggest(suite, [path.stem for path in sorted(SUITES.glob('*.yaml'))])}")


def kept_as() -> str:
    """Where the present params.yaml can be found again; empty if there is none.

    Raises:
        PipelineError: nowhere, so its settings would be lost.
    """
    if not PARAMS.is_file():
        return ""
    content = PARAMS.read_bytes()
    for suite in sorted(SUITES.glob("*.yaml")):
        if suite.read_bytes() == content:
            return str(suite)
    committed = subprocess.run(["git", "show", f"HEAD:./{PARAMS}"], capture_output=True, check=False)
    if committed.returncode == 0 and committed.stdout == content:
        return "as in the last commit"
    raise PipelineError(
        f"{PARAMS} holds settings of yours that are in no suite and in no commit, and would be lost; nothing was copied."
        f" Keep them as a suite of your own first: cp {PARAMS} {SUITES}/mine.yaml (later: python -m pipeline use mine)"
    )
