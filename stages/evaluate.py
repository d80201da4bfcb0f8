"""A row's trained seeds on val and test -> data/results/rows/ROW.  Usage: python -m stages.evaluate ROW"""

from pipeline.stage import publishing, run
from pipeline.training.rows import evaluate_row
from stages.paths import ROWS, RUNS
from stages.rows import read_row


def main(name: str) -> None:
    inputs, params = read_row(name)
    with publishing(ROWS / name) as directory:
        evaluate_row(inputs, RUNS / name, params.train, directory)


if __name__ == "__main__":
    run("evaluate", main, takes="row")
