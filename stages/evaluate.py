"""Predict val and test with a run's trained seeds and score them: data/results/runs/RUN.

Usage: python -m stages.evaluate RUN
"""

from pipeline.stage import publishing, run
from pipeline.training.evaluate import evaluate_run
from stages.paths import RESULTS, RUNS
from stages.runs import read_run


def main(name: str) -> None:
    inputs, params = read_run(name)
    with publishing(RESULTS / name) as directory:
        evaluate_run(inputs, RUNS / name, params.train, directory)


if __name__ == "__main__":
    run("evaluate", main, takes="run")
