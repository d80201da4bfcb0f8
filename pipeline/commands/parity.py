"""``parity``: compare two feature stores of the same clips, and find the likely cause of a difference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.parity.inputs import Reencoder

PARAMS, INDEX = Path("params.yaml"), Path("data/index")


def add(commands: Any) -> None:
    parser = commands.add_parser("parity", help="compare our features with published ones of the same clips")
    parser.add_argument("--ours", type=Path, required=True, metavar="STORE", help="data/features/NAME, as `extract` wrote it")
    parser.add_argument("--published", type=Path, required=True, metavar="STORE", help="data/features/NAME, as imported")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory of the report (default data/results/parity/OURS-PUBLISHED)")
    parser.add_argument("--reencode", type=int, default=3, metavar="N", help="clips to encode again for each hypothesis (default 3)")
    parser.set_defaults(command=parity)


def parity(arguments: argparse.Namespace) -> None:
    from pipeline.parity.report import as_text, compare

    out = arguments.out or Path("data/results/parity") / f"{arguments.ours.name}-{arguments.published.name}"
    encoder, why_not = reencoder(arguments.ours.name, arguments.reencode)
    print(as_text(out, compare(arguments.ours, arguments.published, out, encoder, why_not)))


def reencoder(name: str, clips: int) -> tuple[Reencoder | None, str]:
    """(encoder of the feature set ``name`` for encoding clips again, ""), or (None, the reason there is none).

    params.yaml and data/index must be those of the store; the search checks that.
    """
    from pipeline import config
    from pipeline.cache import Cache
    from pipeline.datasets import read_index
    from pipeline.media.decoding import make_jobs
    from pipeline.parity.inputs import Reencoder

    if clips < 1:
        return None, "--reencode is 0"
    try:
        params = config.load(PARAMS)
        settings = config.pick(params.features, name, "feature set")
        index, _ = read_index(INDEX, params.dataset.clips)
    except (PipelineError, OSError) as error:
        return None, f"clips cannot be encoded again: {' '.join(str(error).split())}"
    cache = Cache(params.cache.place)
    jobs, _ = make_jobs(index, params.dataset.segments, params.dataset.segment_seconds, params.media, cache)
    return Reencoder(settings, jobs, cache, clips), ""
