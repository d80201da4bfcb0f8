"""``download``: download a data set's clips by their ids, with a status for each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.commands.options import settings
from pipeline.stage import only_one


def add(commands: Any) -> None:
    parser = commands.add_parser("download", help="download a data set's clips by their ids (needs the extra `download`: yt-dlp)")
    parser.add_argument("--kind", required=True, choices=("ave", "llp", "unav100", "csv"), help="format of the annotations")
    parser.add_argument("--annotations", type=Path, required=True, metavar="PATH", help="the annotation file, or its directory")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="directory for the clips and downloads.parquet")
    parser.add_argument("--spans", type=Path, nargs="+", default=[], metavar="CSV", help="ave: AudioSet's segment lists")
    parser.add_argument("--whole", action="store_true", help="ave: whole videos, when the ten seconds of each clip are unknown")
    parser.add_argument("--sleep", type=float, help="shortest pause between two videos in seconds (default 5)")
    parser.add_argument("--limit", type=int, help="largest number of videos to request this time")
    parser.add_argument("--retry", action="store_true", help="try removed, private and geo-blocked videos again")
    parser.add_argument("--max-height", type=int, help="largest height in pixels (default 360)")
    parser.add_argument("--bytes-per-second", type=int, help="rate limit of a transfer (default 2,000,000)")
    parser.set_defaults(command=download)


def download(arguments: argparse.Namespace) -> None:
    from pipeline.raw.download import DownloadSettings
    from pipeline.raw.download import download as download_clips
    from pipeline.raw.wanted import read_wanted
    from pipeline.raw.youtube import YoutubeSettings, YtDlp

    pace, form = settings(DownloadSettings, arguments), settings(YoutubeSettings, arguments)
    wanted = read_wanted(arguments.kind, arguments.annotations, arguments.spans, arguments.whole)
    try:
        with only_one("download"):
            print(download_clips(wanted, arguments.into, pace, lambda: YtDlp(form)))
    except KeyboardInterrupt:
        print("download: interrupted; finished videos are kept and recorded, the next start continues", file=sys.stderr)
        sys.exit(130)
