"""``python -m pipeline COMMAND``: the commands beside the stages of the DAG.

table                        print the results table and where the page and figures are
table --experiments 'abl-*'  print one table of the DVC experiments with matching names, queued ones included
table --into FILE --mark M   put the table between <!-- M --> and <!-- /M --> of a text file
results [SUITE ...]          make the tables of docs/results/ again, each suite in a clone of its own; --check says which are old
ablations SUITE              queue the runs of an ablation suite as DVC experiments; --table prints the papers' tables of them
use SUITE                    make a suite of suites/ the active params.yaml; settings of yours are never lost
settings RUN                 print the settings of a run and where each comes from; docs/settings.md has all that can be set
new DIR --clips FILMS --labels L  make a project for films of your own, with settings that fit them
weights list                 list the known weights, their files here, their sources and licences
weights get NAME [--from P]  download weights (or copy a local file) into models/pretrained and verify them
unpack ARCHIVE ... --into DIR     unpack archives of clips into data/raw, safely
download --kind K ... --into DIR  download clips by their ids, with a status for each (needs yt-dlp)
make-features DIR            write made-up numbers in the files and shapes of AVE's published features
encode NAME ...              decode and encode the clips at once, ahead of `dvc repro`: worth it on a GPU
cache                        show what the cache of clips holds by kind and age; --older-than 30d, --kind K, --not-in params remove entries
texts FOLDER --prompts P --out FILE  embed a prompt for each class by CLIP or CLAP, for labels of segments
parity --ours A --published B     compare two feature stores of the same clips, and find the likely cause of a difference
predict FILE... --run RUN    find the events of video files: events.json, segments.csv, pictures; with --overlay an MP4 too
predict FILE... --model M    the same with an exported run, anywhere
export RUN --out M           write a trained run to one file that predicts on another machine
features FILE... --out DIR   encode films without a data set: npy, HDF5 or parquet, with spec.json; --set NAME, or --visual and --audio
doctor                       check versions, device, decoders, weights, cache and DVC's state, with advice on each problem
"""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.commands import (
    ablations,
    cache,
    doctor,
    download,
    encode,
    export,
    features,
    make_features,
    new,
    parity,
    predict,
    results,
    settings,
    table,
    texts,
    unpack,
    use,
    weights,
)
from pipeline.console import console, ending_on_sigterm

COMMANDS = (
    table,
    ablations,
    results,
    use,
    settings,
    new,
    weights,
    unpack,
    download,
    make_features,
    encode,
    texts,
    cache,
    parity,
    predict,
    export,
    features,
    doctor,
)


class Version(argparse.Action):
    """Print the version when it is asked for: its module imports torch."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from pipeline.machine import PROJECT, project_version

        print(f"{PROJECT} {project_version()}")
        parser.exit()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action=Version, nargs=0, help="print the version of this project and leave")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    with console("", 2, "interrupted; finished work is kept"), ending_on_sigterm():
        arguments = parser.parse_args()
        arguments.command(arguments)


if __name__ == "__main__":
    main()
