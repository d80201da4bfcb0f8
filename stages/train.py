"""Train every seed of a run: models/runs/RUN.

Usage: python -m stages.train RUN
or: torchrun --nnodes ... --nproc-per-node ... -m stages.train RUN, each process for its share of the seeds
"""

from pipeline.ranks import this_rank
from pipeline.stage import run
from pipeline.together import publishing_together
from pipeline.training.memory import keep_freed_memory
from pipeline.training.train import check_rank, train_run
from stages.paths import LIVE, RUNS
from stages.runs import read_run


def main(name: str) -> None:
    keep_freed_memory()
    rank = this_rank()
    inputs, params = read_run(name)
    cluster = params.machine.address if params.machine.engine == "ray" else None
    check_rank(rank, inputs, params.train, cluster)
    with publishing_together(rank, RUNS / name, inputs.fingerprint(params.train)) as (directory, together):
        train_run(inputs, params.train, directory, LIVE / name, params.machine.seeds_at_once, cluster, together)


if __name__ == "__main__":
    run("train", main, takes="run", ranks=True)
