"""``new``: make a project for films of one's own, with settings that fit them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("new", help="make a project for films of your own, with settings that fit them")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a new directory, made as a clone of this project")
    parser.add_argument("--clips", type=Path, required=True, metavar="FILMS", help="directory of the films, searched with its folders")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="LABELS",
        help="CSV file (clip,start,end,label and, if wanted, split), or a file or folder of ELAN (.eaf), VIA (.json, .csv) or Audacity"
        " (.txt, named like its film); default: those beside the films",
    )
    parser.add_argument("--tier", metavar="NAME", help="read this tier of ELAN, or this attribute of VIA, alone")
    parser.add_argument("--seed", type=int, default=0, help="which films are trained on, where the labels give no splits (default 0)")
    parser.set_defaults(command=new)


def new(arguments: argparse.Namespace) -> None:
    from pipeline.films.project import new_project  # imports torch

    lines = new_project(arguments.directory, arguments.clips, arguments.labels, arguments.tier, arguments.seed)
    print("\n".join(lines))
