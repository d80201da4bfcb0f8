"""Decode the files into the per-clip cache, and write the verdict on every clip to data/clips/.

Usage: python -m stages.decode [--shard i/n]    a shard only fills the cache, with its share of the clips
"""

from pathlib import Path

import pandas as pd

from pipeline import config
from pipeline.cache import Cache
from pipeline.datasets import read_index
from pipeline.datasets.base import expected_files, published_path
from pipeline.disk_room import check_room, naming_shortage
from pipeline.media.decoding import check_bad_share, decode_clips, make_jobs, summary
from pipeline.media.room import decoding_room
from pipeline.media.unread import unread_films, with_unread
from pipeline.sealed import write_sealed
from pipeline.shards import Shard
from pipeline.stage import publishing, run
from pipeline.tables import write_table
from stages.paths import CLIPS, INDEX, PARAMS


def main(shard: Shard | None = None) -> None:
    params = config.load(PARAMS)
    dataset = params.dataset
    index = expected_files(read_index(INDEX, dataset.clips)[0], dataset)
    cache = Cache(params.cache.place)
    jobs, missing = make_jobs(index, dataset.segments, dataset.segment_seconds, params.media, cache)
    jobs, room = decoding_room(jobs, cache)
    check_room("decode", room, params.cache.min_free_gb)
    decode = None
    if params.machine.engine == "ray":
        from pipeline.features.engines.ray import RayEngine

        decode = RayEngine(params.machine.address).decode_each
    if shard:
        share = shard.share(job.key for job in jobs.values())
        mine = [job for job in jobs.values() if job.key in share]
        print(f"decode: shard {shard}: {summary(decode_clips(mine, [], params.media, decode=decode))}")
        return
    with naming_shortage(lambda: decoding_room(jobs, cache)[1]):
        manifest = with_unread(decode_clips(list(jobs.values()), missing, params.media, decode=decode), jobs)
    health = unread_films(manifest)
    for line in (summary(manifest), *health):
        print(f"decode: {line}")
    check_bad_share(manifest, params.media.max_bad_fraction)
    with publishing(CLIPS) as directory:
        write_table(without_folders(manifest, dataset.clips), directory / "clips.parquet")
        counts = manifest["status"].value_counts().sort_index()
        write_sealed(directory / "summary.json", {"clips": len(manifest), **counts.to_dict(), **({"health": health} if health else {})})


def without_folders(manifest: pd.DataFrame, clips: Path) -> pd.DataFrame:
    """Make the manifest publishable: file names in the column ``file`` and in error texts lose this machine's folders."""
    files = manifest["file"].map(lambda file: published_path(file, clips), na_action="ignore")
    named = zip(manifest["reason"], manifest["file"], files, strict=True)
    reasons = [text.replace(file, short) if isinstance(text, str) and isinstance(file, str) else text for text, file, short in named]
    return manifest.assign(file=files, reason=reasons)


if __name__ == "__main__":
    run("decode", main, shards=True)
