"""Report on all runs in data/results/report: the metrics file for `dvc exp show`, tables, figures, model cards, the page.

If runs are missing, the report is still published and names them, but the stage fails: DVC records no incomplete report, and CI notices.
"""

from pathlib import Path

from pipeline import config
from pipeline.cache import Cache
from pipeline.errors import PipelineError
from pipeline.git import code_commit
from pipeline.made_from import run_params
from pipeline.report.cards import About, is_synthetic
from pipeline.report.pictures import pictures
from pipeline.report.report import Sources, write_report
from pipeline.report.results import read_runs
from pipeline.stage import publishing, run
from stages.clips import read_clips
from stages.paths import CLIPS, FOLDS, INDEX, LIVE, PARAMS, REPORT, RESULTS


def main() -> None:
    params = config.load(PARAMS)
    methods = {name: params.method_settings(name) for name in params.runs}
    today = {name: run_params(params, name) for name in params.runs}
    about = About(is_synthetic(params.dataset.annotations, params.synth), code_commit(Path.cwd()))
    sources = Sources(RESULTS, INDEX, CLIPS, LIVE, params.dataset.segment_seconds, params.dataset.clips, FOLDS, about)
    with publishing(REPORT) as directory:
        print(write_report(params.runs, methods, params.report, sources, directory, today))
        results = read_runs(params.runs, RESULTS, LIVE, today)
        cache = Cache(params.cache.place)
        _, manifest, jobs = read_clips(params, cache)
        pictures(results, INDEX, manifest, jobs, cache, directory)
    for result in results:
        if result.stale:
            print(f"report: {result.name} is stale: {', '.join(result.stale)}")
    if absent := [f"  - {result.name}: {result.absent}" for result in results if result.absent]:
        listed = "\n".join(absent)
        raise PipelineError(f"{len(absent)} of {len(results)} runs are missing; the tables in {REPORT} have the others:\n{listed}")


if __name__ == "__main__":
    run("report", main)
