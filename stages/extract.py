"""Encode the decoded clips into the feature store data/features/NAME.

Usage: python -m stages.extract NAME
"""

from pipeline import config
from pipeline.cache import Cache
from pipeline.features.extraction import Extraction
from pipeline.features.settings import NOT_FINETUNED
from pipeline.made_from import features_params
from pipeline.made_with import read_made_with, write_made_with
from pipeline.stage import publishing, run
from stages.clips import read_clips
from stages.paths import ENCODERS, FEATURES, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    cache = Cache(params.cache.place)
    _, manifest, jobs = read_clips(params, cache)
    extraction = Extraction(config.pick(params.features, name, "name"), jobs, cache)
    with publishing(FEATURES / name) as directory:
        print(f"extract {name}: {extraction.run(manifest, directory)}")
        finetuned = params.features[name].finetuned
        of_encoder = {"params": {}, "machines": {}} if finetuned == NOT_FINETUNED else read_made_with(ENCODERS / finetuned)
        made_with = {**of_encoder["params"], **features_params(params, name)}
        write_made_with(directory, made_with, {**of_encoder["machines"], "features": extraction.machines})


if __name__ == "__main__":
    run("extract", main, takes="name")
