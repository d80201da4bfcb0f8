"""``doctor``: examine the machine and the project, with advice on each problem."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("doctor", help="examine the machine and the project, with advice on each problem")
    parser.set_defaults(command=doctor)


def doctor(_: argparse.Namespace) -> None:
    from pipeline.doctor import as_text, examine  # imports torch and the decoders

    findings = list(examine(Path.cwd()))
    print(as_text(findings))
    sys.exit(any(finding.advice for finding in findings))
