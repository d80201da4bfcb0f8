"""``encode``: decode and encode clips at once, into the cache, ahead of ``dvc repro``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

PARAMS, INDEX = Path("params.yaml"), Path("data/index")


def add(commands: Any) -> None:
    parser = commands.add_parser("encode", help="decode and encode the clips at once, ahead of `dvc repro`: worth it on a GPU")
    parser.add_argument("names", nargs="+", metavar="NAME", help="entries of `features`; data/index must be there")
    parser.set_defaults(command=encode)


def encode(arguments: argparse.Namespace) -> None:
    """Fill the cache: the stages `decode` and `extract` find every clip there, and write the same bytes."""
    from pipeline import config
    from pipeline.cache import Cache
    from pipeline.datasets import read_index
    from pipeline.datasets.base import expected_files
    from pipeline.disk_room import check_room
    from pipeline.features.engines.base import on_cluster
    from pipeline.features.extraction import Extraction
    from pipeline.media.decoding import make_jobs, summary
    from pipeline.media.room import decoding_room
    from pipeline.stage import only_one

    params = config.load(PARAMS)
    chosen = {name: config.pick(params.features, name, "feature set") for name in arguments.names}
    dataset, cache = params.dataset, Cache(params.cache.place)
    index = expected_files(read_index(INDEX, dataset.clips)[0], dataset)
    jobs, missing = make_jobs(index, dataset.segments, dataset.segment_seconds, params.media, cache)
    engine = on_cluster(params.machine.engine, params.machine.address)
    jobs, room = decoding_room(jobs, cache)
    check_room("encode", room, params.cache.min_free_gb)
    media = next(iter(jobs.values())).settings if jobs else params.media
    with only_one("encode"):
        for name, settings in chosen.items():
            manifest = Extraction(settings, jobs, cache, engine=engine).decode(missing, media)
            print(f"encode {name}: {summary(manifest)}", flush=True)
