"""Fine-tune the visual encoder, the audio one or both on the training clips: models/encoders/NAME.

Usage: python -m stages.finetune NAME
or: torchrun --nnodes ... --nproc-per-node ... -m stages.finetune NAME, as many processes in all as finetune.NAME.devices says
"""

from pipeline import config
from pipeline.cache import Cache
from pipeline.contrastive.data import select
from pipeline.contrastive.finetuning import Finetuning, finetuned_on
from pipeline.made_from import finetuned_params
from pipeline.made_with import write_made_with
from pipeline.ranks import this_rank
from pipeline.stage import run
from pipeline.together import publishing_together
from stages.clips import read_clips
from stages.paths import ENCODERS, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    cache = Cache(params.cache.place)
    rank = this_rank()
    finetuning = Finetuning(name, config.pick(params.finetune, name, "name"), select(*read_clips(params, cache)), cache)
    finetuning.check_rank(rank)
    with publishing_together(rank, ENCODERS / name, finetuning.fingerprint()) as (directory, together):
        summary = finetuning.run(directory, together)
        if not rank.first:
            return
        print(f"finetune {name}: {summary}")
        machines = {"fine-tuning": finetuned_on(directory)}
        write_made_with(directory, finetuned_params(params, name), machines)


if __name__ == "__main__":
    run("finetune", main, takes="name", ranks=True)
