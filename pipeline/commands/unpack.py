"""``unpack``: unpack archives of clips into a directory, safely."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options import settings
from pipeline.stage import only_one


def add(commands: Any) -> None:
    parser = commands.add_parser("unpack", help="unpack archives of clips safely, whole or not at all")
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help=".zip, .tar, .tar.gz, .tar.bz2, .tar.xz")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="a new directory, e.g. data/raw/ave")
    parser.add_argument("--max-bytes", type=int, help="largest size of all files once unpacked (default 500 GiB)")
    parser.add_argument("--max-files", type=int, help="largest number of entries in all archives (default 500,000)")
    parser.add_argument("--max-ratio", type=float, help="largest ratio of unpacked bytes to an archive's bytes (default 20)")
    parser.set_defaults(command=unpack)


def unpack(arguments: argparse.Namespace) -> None:
    from pipeline.raw.archives import UnpackLimits
    from pipeline.raw.archives import unpack as unpack_archives

    with only_one("unpack"):
        print(unpack_archives(arguments.archives, arguments.into, settings(UnpackLimits, arguments)))
