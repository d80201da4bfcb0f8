"""Fine-tune a visual encoder on the training clips -> models/encoders/NAME.  Usage: python -m stages.finetune NAME"""

import pandas as pd

from pipeline import config
from pipeline.cache import Cache
from pipeline.contrastive.data import select
from pipeline.contrastive.finetuning import Finetuning
from pipeline.datasets import read_index
from pipeline.media.decoding import make_jobs
from pipeline.stage import publishing, run
from stages.paths import CLIPS, ENCODERS, INDEX, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    index, _ = read_index(INDEX)
    cache = Cache(params.cache.dir)
    jobs, _ = make_jobs(index, params.dataset.segments, params.dataset.segment_seconds, params.media, cache)
    manifest = pd.read_parquet(CLIPS / "clips.parquet")
    finetuning = Finetuning(name, config.pick(params.finetune, name, "name"), select(index, manifest, jobs), cache)
    with publishing(ENCODERS / name, resume=finetuning.fingerprint()) as directory:
        print(f"finetune {name}: {finetuning.run(directory)}")


if __name__ == "__main__":
    run("finetune", main, takes="name")
