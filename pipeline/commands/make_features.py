"""``make-features``: numbers of AVE's published shapes under AVE's real labels, to try what reads the published files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options import settings
from pipeline.stage import only_one


def add(commands: Any) -> None:
    parser = commands.add_parser("make-features", help="write made numbers in the files and shapes of AVE's published features")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="DIRECTORY/features is written, e.g. data/published/ave")
    parser.add_argument("--annotations", type=Path, metavar="DIR", help="of AVE's annotation files (default DIRECTORY/annotations)")
    parser.add_argument("--every", type=int, metavar="K", help="take each K-th row of every split, and write their annotations too")
    parser.add_argument("--positions", type=int, help="height and width of the visual map (default 7)")
    parser.add_argument("--visual", type=int, metavar="WIDTH", help="of a visual vector (default 512)")
    parser.add_argument("--audio", type=int, metavar="WIDTH", help="of an audio vector (default 128)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="of the files (default float32; published: float64)")
    parser.add_argument("--seed", type=int, help="everything random follows from it (default 0)")
    parser.set_defaults(command=make_features)


def make_features(arguments: argparse.Namespace) -> None:
    from pipeline.synth.ave_features import MadeFeatures
    from pipeline.synth.ave_features import make_features as write

    directory = arguments.directory
    with only_one("make-features"):
        print(write(directory, arguments.annotations or directory / "annotations", settings(MadeFeatures, arguments)))
