"""``make-features``: write made-up features in AVE's published shapes with AVE's real labels, to try the import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options import settings
from pipeline.stage import only_one

PUBLISHED = Path("data/published/ave/annotations")


def add(commands: Any) -> None:
    parser = commands.add_parser("make-features", help="write made-up numbers in the files and shapes of AVE's published features")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="a new directory for features/ and annotations/: data/made/ave")
    parser.add_argument("--annotations", type=Path, default=PUBLISHED, metavar="DIR", help=f"AVE's annotation files (default {PUBLISHED})")
    parser.add_argument("--every", type=int, metavar="K", help="use every K-th row of each split")
    parser.add_argument("--positions", type=int, help="height and width of the visual map (default 7)")
    parser.add_argument("--visual", type=int, metavar="WIDTH", help="width of a visual vector (default 512)")
    parser.add_argument("--audio", type=int, metavar="WIDTH", help="width of an audio vector (default 128)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="number type in the files (default float32; published: float64)")
    parser.add_argument("--seed", type=int, help="seed of all random numbers (default 0)")
    parser.set_defaults(command=make_features)


def make_features(arguments: argparse.Namespace) -> None:
    from pipeline.synth.ave_features import MadeFeatures
    from pipeline.synth.ave_features import make_features as write

    with only_one("make-features"):
        print(write(arguments.directory, arguments.annotations, settings(MadeFeatures, arguments)))
