"""``python -m pipeline COMMAND``: what is not a stage of the DAG.

table                        print the results table and where the page and figures are
table --experiments 'abl-*'  DVC experiments whose names match, queued ones too, as one table
table --into FILE --mark M   put the table between <!-- M --> and <!-- /M --> of a text file
weights list                 the known weights, where each would be found, and what is there
weights get NAME [--from P]  download (or copy from a local file) into models/pretrained, verified
unpack ARCHIVE ... --into DIR     archives of clips into data/raw, safely
download --kind K ... --into DIR  clips by their ids, with a status for each (needs yt-dlp)
make-features DIR            made numbers in the files and shapes of AVE's published features
parity --ours A --published B     compare two feature stores of the same clips, and find the likely cause of a difference
predict FILE... --run RUN    the events of video files by a trained run: events.json, segments.csv, pictures; --overlay: an MP4 too
doctor                       versions, device, decoders, weights, cache and DVC's state, and what to do about each problem
"""

from __future__ import annotations

import argparse

from pipeline.commands import doctor, download, make_features, parity, predict, table, unpack, weights
from pipeline.console import console, ending_on_sigterm

COMMANDS = (table, weights, unpack, download, make_features, parity, predict, doctor)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    with console("", 2, "interrupted; finished work is kept"), ending_on_sigterm():
        arguments = parser.parse_args()
        arguments.command(arguments)


if __name__ == "__main__":
    main()
