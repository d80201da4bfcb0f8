"""Index annotations and files in data/index/: one parquet line per annotation row, classes, health."""

from pipeline import config
from pipeline.cache import Cache
from pipeline.datasets import build_index, write_index
from pipeline.made_from import index_params
from pipeline.made_with import write_made_with
from pipeline.stage import publishing, run
from stages.paths import INDEX, PARAMS


def main() -> None:
    params = config.load(PARAMS)
    index = build_index(params.dataset, params.media)
    with publishing(INDEX) as directory:
        health = write_index(index, directory, params.dataset, Cache(params.cache.place).of_machine)
        write_made_with(directory, index_params(params), {})
    print(f"index: {len(index.rows)} rows, {len(index.classes)} classes")
    for line in health:
        print(f"index: {line}")


if __name__ == "__main__":
    run("index", main)
