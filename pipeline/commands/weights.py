"""``weights``: list the known published weights, or download one of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

PRETRAINED = Path("models/pretrained")


def add(commands: Any) -> None:
    parser = commands.add_parser("weights", help="list or download published weights")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|get")
    actions.add_parser("list").set_defaults(command=list_weights)
    get = actions.add_parser("get")
    get.add_argument("name")
    get.add_argument("--from", dest="source", type=Path, metavar="PATH", help="copy from a local file instead of downloading")
    get.set_defaults(command=get_weights)


def list_weights(_: argparse.Namespace) -> None:
    from pipeline.encoders.weights import find, list_known  # imports torch

    for known in list_known():
        print(f"{known.name:20} {find(known) or 'not here'}\n{'':20} {known.url or known.note}\n{'':20} {known.licence}")


def get_weights(arguments: argparse.Namespace) -> None:
    from pipeline.encoders.download import download  # imports torch

    found = download(arguments.name, PRETRAINED, from_path=arguments.source)
    check = "verified" if found.verified else "with no published hash to compare it with"
    print(f"{found.path}: {found.path.stat().st_size:,} bytes, sha256 {found.sha256} {check}")
