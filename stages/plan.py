"""Check params.yaml; data/plan/: for each run, feature set and fine-tuning the code and the files that its settings choose."""

import sys

from pipeline import config
from pipeline.errors import InputProblems
from pipeline.named_data import missing_data
from pipeline.plan import write_plan
from pipeline.stage import publishing, run
from stages.paths import INDEX, PARAMS, PLAN


def report_missing(problems: list[str]) -> None:
    """Say which data that params.yaml names is not here, before DVC says no more than "[Errno 2]" of it.

    Raises:
        InputProblems: there is no index either, so that no stage can do anything without the data.
    """
    if problems and not INDEX.exists():
        raise InputProblems(str(PARAMS), problems)
    for problem in problems:
        print(f"plan: {problem}", file=sys.stderr, flush=True)


def main() -> None:
    params = config.load(PARAMS)
    report_missing(missing_data(params))
    with publishing(PLAN) as directory:
        write_plan(params, directory)


if __name__ == "__main__":
    run("plan", main)
