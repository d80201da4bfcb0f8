"""Index annotations and files in data/index/: one parquet line per annotation row, classes, health; and the folds in data/folds/."""

from pipeline import config
from pipeline.cache import Cache
from pipeline.datasets import build_index, read_index, write_index
from pipeline.datasets.folding import make_folds
from pipeline.datasets.folds import write_folds
from pipeline.made_from import index_params
from pipeline.made_with import write_made_with
from pipeline.stage import publishing, run
from stages.paths import FOLDS, INDEX, PARAMS


def main() -> None:
    params = config.load(PARAMS)
    index, settings, folds = build_index(params.dataset, params.media), params.dataset.folds, None
    with publishing(INDEX) as directory, publishing(FOLDS) as of_folds:
        health = write_index(index, directory, params.dataset, Cache(params.cache.place).of_machine)
        write_made_with(directory, index_params(params), {})
        if settings is not None:
            folds = make_folds(index.rows, settings, read_index(directory)[0]["sha256"].tolist())
        write_folds(folds, of_folds)
    print(f"index: {len(index.rows)} rows, {len(index.classes)} classes")
    if folds is not None:
        print(f"index: {len(folds.clips)} clips in {folds.number} folds, of {folds.facts['groups']} groups that share no source")
    for line in [*health, *(folds.facts["health"] if folds is not None else [])]:
        print(f"index: {line}")


if __name__ == "__main__":
    run("index", main)
