"""Fine-tune a visual encoder on the training clips: models/encoders/NAME.

Usage: python -m stages.finetune NAME
"""

from pipeline import config
from pipeline.cache import Cache
from pipeline.contrastive.data import select
from pipeline.contrastive.finetuning import Finetuning, finetuned_on
from pipeline.made_from import finetuned_params
from pipeline.made_with import write_made_with
from pipeline.stage import publishing, run
from stages.clips import read_clips
from stages.paths import ENCODERS, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    cache = Cache(params.cache.place)
    finetuning = Finetuning(name, config.pick(params.finetune, name, "name"), select(*read_clips(params, cache)), cache)
    with publishing(ENCODERS / name, resume=finetuning.fingerprint()) as directory:
        print(f"finetune {name}: {finetuning.run(directory)}")
        machines = {"fine-tuning": finetuned_on(directory)}
        write_made_with(directory, finetuned_params(params, name), machines)


if __name__ == "__main__":
    run("finetune", main, takes="name")
