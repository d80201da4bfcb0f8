"""``export``: write a trained run to one file that predicts on another machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a trained run to one file for `predict --model` on another machine")
    parser.add_argument("run", metavar="RUN", help="a trained run of `runs` in params.yaml")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write, e.g. RUN.avel")
    parser.add_argument("--seed", type=int, action="append", default=[], metavar="K", help="one of its seeds, may be repeated (else all)")
    parser.add_argument("--whole", action="store_true", help="include the encoders' published weights too")
    parser.add_argument(
        "--program", action="store_true", help="include each network as a program of torch.export, checked on random numbers"
    )
    parser.set_defaults(command=export)


def export(arguments: argparse.Namespace) -> None:
    from pipeline.predict.exported import export as write  # imports torch

    print(write(arguments.run, arguments.out, arguments.seed, arguments.whole, arguments.program))
