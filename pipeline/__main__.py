"""``python -m pipeline COMMAND``: what is not a stage of the DAG.

table                        print the results table and where the page and figures are
table --experiments 'abl-*'  DVC experiments whose names match, queued ones too, as one table
table --into FILE --mark M   put the table between <!-- M --> and <!-- /M --> of a text file
weights list                 the known weights, where each would be found, and what is there
weights get NAME [--from P]  download (or copy from a local file) into models/pretrained, verified
unpack ARCHIVE ... --into DIR     archives of clips into data/raw, safely
download --kind K ... --into DIR  clips by their ids, with a status for each (needs yt-dlp)
parity --ours A --published B     compare two feature stores of the same clips, and find the likely cause of a difference
predict FILE... --run RUN    the events of video files by a trained run: events.json, segments.csv, pictures; --overlay: an MP4 too
doctor                       versions, device, decoders, weights, cache and DVC's state, and what to do about each problem
"""

from __future__ import annotations

import argparse
import codecs
import sys
from pathlib import Path

from pipeline.commands import add_commands
from pipeline.console import console, ending_on_sigterm
from pipeline.errors import PipelineError
from pipeline.publish import write_text
from pipeline.text import read_text

REPORT = Path("data/results/report")
PRETRAINED = Path("models/pretrained")


def table(arguments: argparse.Namespace) -> None:
    text = experiments(arguments.experiments, arguments.commits) if arguments.experiments else results()
    if arguments.into:
        insert(arguments.into, arguments.mark, text)
        print(f"{arguments.into}: the table stands between <!-- {arguments.mark} --> and <!-- /{arguments.mark} -->")
        return
    print(text)
    if not arguments.experiments:
        print(f"Page:    {REPORT / 'index.html'}")
        print(f"Figures: {REPORT / 'runs.png'}, {REPORT / 'curves.png'}")
        print(f"Table:   {REPORT / 'table.md'}, {REPORT / 'table.tex'}, {REPORT / 'table.csv'}")


def results() -> str:
    path = REPORT / "table.md"
    if not path.is_file():
        raise PipelineError(f"{path} does not exist yet; `dvc repro` makes it")
    from pipeline.today import news_since_report  # imports torch

    lines = [f"- {line}\n" for line in news_since_report(Path.cwd())]
    return path.read_text(encoding="utf-8") + ("\nSince this table was made:\n\n" + "".join(lines) if lines else "")


def experiments(pattern: str, commits: int) -> str:
    from pipeline.experiments import experiments_table, read_experiments
    from pipeline.report.formats import markdown

    return markdown(experiments_table(read_experiments(Path.cwd(), commits), pattern))


def insert(path: Path, mark: str, text: str) -> None:
    """Replace what stands between the two marks of a text file, which is never left half written."""
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    content = read_text(path) if path.is_file() else ""
    if content.count(start) != 1 or content.count(end) != 1:
        raise PipelineError(f"{path}: needs the lines {start} and {end}, once each")
    before, rest = content.split(start)
    mark_of_bytes = "\ufeff" if path.read_bytes().startswith(codecs.BOM_UTF8) else ""  # some editors need it
    write_text(path, f"{mark_of_bytes}{before}{start}\n{text}{end}{rest.split(end)[1]}")


def weights(arguments: argparse.Namespace) -> None:
    from pipeline.encoders.download import download  # imports torch: only where it is needed
    from pipeline.encoders.weights import find, list_known

    if arguments.action == "list":
        for known in list_known():
            print(f"{known.name:20} {find(known) or 'not here'}\n{'':20} {known.url or known.note}\n{'':20} {known.licence}")
    else:
        print(download(arguments.name, PRETRAINED, from_path=arguments.source))


def predict(arguments: argparse.Namespace) -> None:
    from pipeline.predict.command import run  # imports torch

    sys.exit(run(arguments.files, arguments.run, arguments.seed, arguments.out, arguments.overlay))


def doctor(_: argparse.Namespace) -> None:
    from pipeline.doctor import as_text, examine  # imports torch and the decoders

    findings = list(examine(Path.cwd()))
    print(as_text(findings))
    sys.exit(any(finding.advice for finding in findings))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    of_table = commands.add_parser("table", help="print the results table")
    of_table.add_argument("--experiments", metavar="PATTERN", help="a table of the DVC experiments whose names match, e.g. 'abl-*'")
    of_table.add_argument("--commits", type=int, default=10, metavar="N", help="look at the experiments of so many last commits")
    of_table.add_argument("--into", type=Path, metavar="FILE", help="text file to put the table into")
    of_table.add_argument("--mark", default="results", help="name of the marks in that file")
    of_table.set_defaults(run=table)
    of_weights = commands.add_parser("weights", help="list or download published weights")
    actions = of_weights.add_subparsers(dest="action", required=True, metavar="list|get")
    actions.add_parser("list")
    get = actions.add_parser("get")
    get.add_argument("name")
    get.add_argument("--from", dest="source", type=Path, metavar="PATH", help="copy from a local file instead of downloading")
    of_weights.set_defaults(run=weights)
    of_predict = commands.add_parser("predict", help="find the events of video files with a trained run")
    of_predict.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a video of at most an hour")
    of_predict.add_argument("--run", dest="run", required=True, metavar="RUN", help="a trained run of `runs` in params.yaml")
    of_predict.add_argument("--seed", type=int, metavar="K", help="of the run's seeds; default: the first")
    of_predict.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="a folder per file goes there")
    of_predict.add_argument("--overlay", action="store_true", help="write overlay.mp4: the film with attention and events drawn in")
    of_predict.set_defaults(run=predict)
    commands.add_parser("doctor", help="look at the machine and the project, and say what to do about each problem").set_defaults(
        run=doctor
    )
    add_commands(commands)
    with console("", 2, "interrupted; what was finished is kept"), ending_on_sigterm():
        arguments = parser.parse_args()
        arguments.run(arguments)


if __name__ == "__main__":
    main()
