"""The commands of ``python -m pipeline`` that bring raw clips in and compare feature stores: their arguments, and what they call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import InputProblems, PipelineError
from pipeline.stage import only_one


def add_commands(commands: Any) -> None:
    """Add them to the subparsers of ``python -m pipeline``."""
    _add_unpack(commands)
    _add_download(commands)
    _add_parity(commands)


def _add_unpack(commands: Any) -> None:
    parser = commands.add_parser("unpack", help="unpack archives of clips safely, whole or not at all")
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help=".zip, .tar, .tar.gz, .tar.bz2, .tar.xz")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="a new directory, e.g. data/raw/ave")
    parser.add_argument("--max-bytes", type=int, help="of all files once unpacked (default 500 GiB)")
    parser.add_argument("--max-files", type=int, help="entries of all archives (default 500,000)")
    parser.add_argument("--max-ratio", type=float, help="unpacked bytes for each byte of an archive (default 20)")
    parser.set_defaults(run=unpack)


def unpack(arguments: argparse.Namespace) -> None:
    from pipeline.raw.archives import UnpackLimits
    from pipeline.raw.archives import unpack as unpack_archives

    with only_one("unpack"):
        print(unpack_archives(arguments.archives, arguments.into, _settings(UnpackLimits, arguments)))


def _add_download(commands: Any) -> None:
    parser = commands.add_parser("download", help="download a data set's clips by their ids (needs the extra `download`: yt-dlp)")
    parser.add_argument("--kind", required=True, choices=("ave", "llp", "unav100", "csv"), help="how the annotations are to be read")
    parser.add_argument("--annotations", type=Path, required=True, metavar="PATH", help="their file, or the directory it is in")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="where the clips go, and downloads.parquet")
    parser.add_argument("--spans", type=Path, nargs="+", default=[], metavar="CSV", help="ave: AudioSet's segment lists")
    parser.add_argument("--whole", action="store_true", help="ave: whole videos, without knowing which ten seconds a clip is")
    parser.add_argument("--sleep", type=float, help="least seconds between two videos (default 5)")
    parser.add_argument("--limit", type=int, help="most videos asked for in this run")
    parser.add_argument("--retry", action="store_true", help="ask again for what was gone, private or geo-blocked")
    parser.add_argument("--max-height", type=int, help="pixels (default 360)")
    parser.add_argument("--bytes-per-second", type=int, help="rate of one transfer (default 2,000,000)")
    parser.set_defaults(run=download)


def download(arguments: argparse.Namespace) -> None:
    from pipeline.raw.download import DownloadSettings
    from pipeline.raw.download import download as download_clips
    from pipeline.raw.wanted import read_wanted
    from pipeline.raw.youtube import YoutubeSettings, YtDlp

    pace, form = (_settings(kind, arguments) for kind in (DownloadSettings, YoutubeSettings))
    wanted = read_wanted(arguments.kind, arguments.annotations, arguments.spans, arguments.whole)
    try:
        with only_one("download"):
            print(download_clips(wanted, arguments.into, pace, lambda: YtDlp(form)))
    except KeyboardInterrupt:
        print("download: interrupted; finished videos are kept and recorded, the next run goes on", file=sys.stderr)
        sys.exit(130)


def _add_parity(commands: Any) -> None:
    parser = commands.add_parser("parity", help="compare features of ours with published ones of the same clips, and find the cause")
    parser.add_argument("--ours", type=Path, required=True, metavar="STORE", help="data/features/NAME, as `extract` wrote it")
    parser.add_argument("--published", type=Path, required=True, metavar="STORE", help="data/features/NAME, as imported")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default data/results/parity/OURS-PUBLISHED)")
    parser.add_argument("--reencode", type=int, default=3, metavar="N", help="clips to encode again under each hypothesis (default 3)")
    parser.set_defaults(run=parity)


def parity(arguments: argparse.Namespace) -> None:
    from pipeline.parity.report import as_text, compare

    out = arguments.out or Path("data/results/parity") / f"{arguments.ours.name}-{arguments.published.name}"
    encoder, why_not = _reencoder(arguments.ours.name, arguments.reencode)
    print(as_text(out, compare(arguments.ours, arguments.published, out, encoder, why_not)))


def _reencoder(name: str, clips: int) -> tuple[Any, str]:
    """(what encodes clips of the feature set ``name`` again, ""), or (None, why there is none).

    params.yaml and data/index must be those of the store; whether they are, the search finds out.
    """
    from pipeline import config
    from pipeline.cache import Cache
    from pipeline.datasets import read_index
    from pipeline.media.decoding import make_jobs
    from pipeline.parity.inputs import Reencoder

    if clips < 1:
        return None, "--reencode is 0"
    try:
        params = config.load(Path("params.yaml"))
        settings = config.pick(params.features, name, "feature set")
        index, _ = read_index(Path("data/index"), params.dataset.clips)
    except (PipelineError, OSError) as error:
        return None, f"no clips to encode again: {' '.join(str(error).split())}"
    cache = Cache(params.cache.dir)
    jobs, _ = make_jobs(index, params.dataset.segments, params.dataset.segment_seconds, params.media, cache)
    return Reencoder(settings, jobs, cache, clips), ""


def _settings(kind: type[Any], arguments: argparse.Namespace) -> Any:
    """The settings that a command line gives; an option that was left out has its default.

    Raises:
        InputProblems: every value out of range, by its option.
    """
    given = {name: value for name, value in vars(arguments).items() if name in kind.model_fields and value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        findings = [(str(found["loc"][0]).replace("_", "-"), found["msg"], found["input"]) for found in error.errors()]
        raise InputProblems("options", [f"--{name}: {message} (here: {value!r})" for name, message, value in findings]) from None
