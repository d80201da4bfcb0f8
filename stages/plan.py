"""Check params.yaml; data/plan/: for each run, feature set and fine-tuning the code and the files that its settings choose."""

from pipeline import config
from pipeline.plan import write_plan
from pipeline.stage import publishing, run
from stages.paths import PARAMS, PLAN


def main() -> None:
    params = config.load(PARAMS)
    with publishing(PLAN) as directory:
        write_plan(params, directory)


if __name__ == "__main__":
    run("plan", main)
