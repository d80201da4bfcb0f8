"""Train every seed of a row -> models/runs/ROW.  Usage: python -m stages.train ROW"""

from pipeline.stage import publishing, run
from pipeline.training.memory import keep_freed_memory
from pipeline.training.train import train_row
from stages.paths import LIVE, RUNS
from stages.rows import read_row


def main(name: str) -> None:
    keep_freed_memory()
    inputs, params = read_row(name)
    with publishing(RUNS / name, resume=inputs.fingerprint(params.train)) as directory:
        train_row(inputs, params.train, directory, LIVE / name, params.machine.seeds_at_once)


if __name__ == "__main__":
    run("train", main, takes="row")
