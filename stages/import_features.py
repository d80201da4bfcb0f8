"""Import published features into an ordinary feature store, data/features/NAME.

Usage: python -m stages.import_features NAME
"""

from pipeline import config
from pipeline.datasets import read_index
from pipeline.disk_room import check_room
from pipeline.features.importing import Import
from pipeline.features.room import store_writing
from pipeline.made_from import features_params
from pipeline.made_with import write_made_with
from pipeline.stage import publishing, run
from stages.paths import FEATURES, INDEX, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    index, _ = read_index(INDEX)
    importing = Import(config.pick(params.imports, name, "name"), params.dataset, index)
    importing.check()
    with publishing(FEATURES / name, resume=importing.fingerprint()) as directory:
        there = sum(path.stat().st_size for path in directory.glob("*.npy"))
        room = store_writing(importing.spec, len(importing.entries), FEATURES / name, (f"imports.{name}.dtype: float16",), there)
        check_room(f"import_features {name}", [room], params.cache.min_free_gb)
        summary = importing.run(directory)
        write_made_with(directory, features_params(params, name), {})
    for line in summary.splitlines():
        print(f"import_features {name}: {line}")


if __name__ == "__main__":
    run("import_features", main, takes="name")
