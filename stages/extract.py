"""Encode the decoded clips into the feature store data/features/NAME.

Usage: python -m stages.extract NAME [--shard i/n]    a shard only fills the cache, with its share of the clips
"""

from pipeline import config
from pipeline.cache import Cache
from pipeline.disk_room import Writing, check_room, naming_shortage
from pipeline.features.clip_encoder import Clip
from pipeline.features.engines.base import on_cluster
from pipeline.features.extraction import Extraction
from pipeline.features.room import extraction_room
from pipeline.features.settings import NOT_FINETUNED
from pipeline.made_from import features_params
from pipeline.made_with import read_made_with, write_made_with
from pipeline.shards import Shard
from pipeline.stage import publishing, run
from stages.clips import read_clips
from stages.paths import ENCODERS, FEATURES, PARAMS


def main(name: str, shard: Shard | None = None) -> None:
    params = config.load(PARAMS)
    cache = Cache(params.cache.place)
    _, manifest, jobs = read_clips(params, cache)
    engine = on_cluster(params.machine.engine, params.machine.address)
    extraction = Extraction(config.pick(params.features, name, "name"), jobs, cache, engine=engine)

    to_store: list[Clip] = []

    def room(missing: list[Clip]) -> list[Writing]:
        spec, place = extraction.plan.spec(to_store[0].job if to_store else None), None if shard else FEATURES / name
        return extraction_room(name, extraction.encoder, spec, to_store, missing, place)

    def announce(clips: list[Clip], missing: list[Clip]) -> None:
        to_store.extend(clips)
        check_room(f"extract {name}", room(missing), params.cache.min_free_gb)

    if shard:
        print(f"extract {name}: shard {shard}: {extraction.fill(manifest, shard, announce)}")
        return
    with naming_shortage(lambda: room(extraction.plan.missing(to_store))), publishing(FEATURES / name) as directory:
        print(f"extract {name}: {extraction.run(manifest, directory, announce)}")
        finetuned = params.features[name].finetuned
        of_encoder = {"params": {}, "machines": {}} if finetuned == NOT_FINETUNED else read_made_with(ENCODERS / finetuned)
        made_with = {**of_encoder["params"], **features_params(params, name)}
        write_made_with(directory, made_with, {**of_encoder["machines"], "features": extraction.machines})


if __name__ == "__main__":
    run("extract", main, takes="name", shards=True)
