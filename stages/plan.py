"""Check params.yaml, and write to data/plan/ the code and files that each run, feature set and fine-tuning chooses."""

import sys
from contextlib import suppress
from pathlib import Path

from pipeline import config
from pipeline.config import Params
from pipeline.datasets import build_index, read_index
from pipeline.errors import InputProblems, PipelineError
from pipeline.labels.teachers import file_problems
from pipeline.made_from import index_params
from pipeline.made_with import read_made_with
from pipeline.methods import METHODS
from pipeline.named_data import foreign_outs, missing_data
from pipeline.plan import write_plan
from pipeline.stage import publishing, run
from stages.origin import link_data
from stages.paths import INDEX, PARAMS, PLAN


def report_missing(problems: list[str]) -> None:
    """Report data that params.yaml names and that is missing; DVC itself would only print "[Errno 2]".

    Raises:
        InputProblems: there is no index either, so no stage can run without the data.
    """
    if problems and not INDEX.exists():
        raise InputProblems(str(PARAMS), problems)
    for problem in problems:
        print(f"plan: {problem}", file=sys.stderr, flush=True)


def class_problems(params: Params) -> list[str]:
    """List what in label sets and runs does not suit the classes; nothing without known classes.

    Their own stages, which check it too, run hours later.
    """
    configs = {name: METHODS.get(run.method).Config(**params.method_settings(name)) for name, run in params.runs.items()}
    naming = {name: settings for name, settings in configs.items() if settings.files}  # only a file can be of other classes
    classes = known_classes(params) if params.labels or naming else []
    if not classes:
        return []
    found = [problem for name, entry in params.labels.items() for problem in file_problems(name, entry, classes)]
    return found + [f"runs.{name}: {problem}" for name, settings in naming.items() for problem in settings.class_problems(classes)]


def known_classes(params: Params) -> list[str]:
    """The classes of the annotations; without these, of an index that the same params made; else none.

    An index may be that of another data set, until `index` runs, behind this stage.
    """
    with suppress(PipelineError, OSError):  # `index` says why
        return build_index(params.dataset.model_copy(update={"windows": "first"})).classes  # as all windows', but opens no film
    with suppress(PipelineError, OSError):
        if INDEX.is_dir() and read_made_with(INDEX)["params"] == index_params(params):
            return read_index(INDEX)[1]
    return []


def main() -> None:
    params = config.load(PARAMS)
    link_data(params, Path.cwd())
    if problems := foreign_outs(params):
        raise InputProblems(str(PARAMS), problems)
    report_missing(missing_data(params))
    with publishing(PLAN) as directory:
        write_plan(params, directory)
        if problems := class_problems(params):
            raise InputProblems(str(PARAMS), problems)


if __name__ == "__main__":
    run("plan", main)
