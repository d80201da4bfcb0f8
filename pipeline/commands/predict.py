"""``predict``: find the events of video files with a trained run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("predict", help="find the events of video files with a trained run")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a video of at most an hour")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", metavar="RUN", help="a trained run of `runs` in params.yaml")
    source.add_argument("--model", type=Path, metavar="MODEL", help="a file that `export` wrote; no project is needed")
    parser.add_argument("--seed", type=int, metavar="K", help="one of the run's seeds (default: the first)")
    parser.add_argument(
        "--fold", type=int, metavar="F", help="of a run with folds, the network of this fold (default: the first; the answer names it)"
    )
    parser.add_argument("--run-its-code", action="store_true", help="of a MODEL you trust: run the program that its encoder (hear) is")
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="where to write a folder per file")
    parser.add_argument("--overlay", action="store_true", help="also write overlay.mp4: the film with attention and events drawn in")
    parser.set_defaults(command=predict)


def predict(arguments: argparse.Namespace) -> None:
    from pipeline.predict import load_exported, load_run  # imports torch
    from pipeline.predict.answers import answer

    if arguments.run:
        predictor = load_run(arguments.run, arguments.seed, arguments.fold)
    else:
        predictor = load_exported(arguments.model, arguments.seed, arguments.fold, arguments.run_its_code)
    with predictor:  # the exit's traceback holds on to it
        code = answer(arguments.files, predictor, arguments.out, arguments.overlay)
    sys.exit(code)
