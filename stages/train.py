"""Train every seed of a run: models/runs/RUN.

Usage: python -m stages.train RUN
"""

from pipeline.stage import publishing, run
from pipeline.training.memory import keep_freed_memory
from pipeline.training.train import train_run
from stages.paths import LIVE, RUNS
from stages.runs import read_run


def main(name: str) -> None:
    keep_freed_memory()
    inputs, params = read_run(name)
    with publishing(RUNS / name, resume=inputs.fingerprint(params.train)) as directory:
        cluster = params.machine.address if params.machine.engine == "ray" else None
        train_run(inputs, params.train, directory, LIVE / name, params.machine.seeds_at_once, cluster)


if __name__ == "__main__":
    run("train", main, takes="run")
