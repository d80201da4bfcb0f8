"""``make-features``: write made-up features in published shapes with real labels, of AVE or UnAV-100, to try a suite."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options import settings
from pipeline.errors import PipelineError
from pipeline.stage import only_one

PUBLISHED = {"ave": Path("data/published/ave/annotations"), "unav100": Path("data/published/unav100")}


def add(commands: Any) -> None:
    parser = commands.add_parser("make-features", help="write made-up numbers in the files and shapes of published features")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="a new directory for features and annotations: data/made/ave")
    parser.add_argument("--kind", choices=tuple(PUBLISHED), default="ave", help="the data set (default ave)")
    parser.add_argument(
        "--annotations", type=Path, metavar="PATH", help="its annotation files (default data/published/ave/annotations, .../unav100)"
    )
    parser.add_argument("--every", type=int, metavar="K", help="use every K-th row (unav100: video) of each split")
    parser.add_argument("--positions", type=int, help="ave: height and width of the visual map (default 7)")
    parser.add_argument("--visual", type=int, metavar="WIDTH", help="width of a visual vector (default 512; unav100: 1024, twice)")
    parser.add_argument("--audio", type=int, metavar="WIDTH", help="width of an audio vector (default 128)")
    parser.add_argument(
        "--dtype", help="number type in the files: float32 (default) or float64, as published, for ave; float32 or float16 for unav100"
    )
    parser.add_argument("--seed", type=int, help="seed of all random numbers (default 0)")
    parser.set_defaults(command=make_features)


def make_features(arguments: argparse.Namespace) -> None:
    from pipeline.synth.ave_features import MadeFeatures
    from pipeline.synth.ave_features import make_features as write
    from pipeline.synth.unav_features import MadeVideoFeatures, make_video_features

    annotations = arguments.annotations or PUBLISHED[arguments.kind]
    if arguments.kind == "unav100" and arguments.positions is not None:
        raise PipelineError("--positions: the features of UnAV-100 have no map; leave it out")
    with only_one("make-features"):
        if arguments.kind == "unav100":
            print(make_video_features(arguments.directory, annotations, settings(MadeVideoFeatures, arguments)))
        else:
            print(write(arguments.directory, annotations, settings(MadeFeatures, arguments)))
