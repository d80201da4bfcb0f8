"""Decoded clips -> data/features/NAME: one feature store per feature set.  Usage: python -m stages.extract NAME"""

import pandas as pd

from pipeline import config
from pipeline.cache import Cache
from pipeline.datasets import read_index
from pipeline.features.runner import Extraction
from pipeline.media.decoding import make_jobs
from pipeline.stage import publishing, run
from stages.paths import CLIPS, FEATURES, INDEX, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    index, _ = read_index(INDEX)
    cache = Cache(params.cache.dir)
    jobs, _ = make_jobs(index, params.dataset.segments, params.dataset.segment_seconds, params.media, cache)
    manifest = pd.read_parquet(CLIPS / "clips.parquet")
    extraction = Extraction(config.pick(params.features, name, "name"), jobs, cache)
    with publishing(FEATURES / name) as directory:
        print(f"extract {name}: {extraction.run(manifest, directory)}")


if __name__ == "__main__":
    run("extract", main, takes="name")
