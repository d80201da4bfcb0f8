"""All rows -> data/results/report: the metrics file of `dvc exp show`, tables, figures, the page."""

from pipeline import config
from pipeline.cache import Cache
from pipeline.report.pictures import pictures
from pipeline.report.report import Sources, write_report
from pipeline.report.results import read_rows
from pipeline.stage import publishing, run
from stages.clips import read_clips
from stages.paths import CLIPS, INDEX, LIVE, PARAMS, REPORT, ROWS


def main() -> None:
    params = config.load(PARAMS)
    methods = {name: params.method_settings(name) for name in params.runs}
    sources = Sources(ROWS, INDEX, CLIPS, LIVE, params.dataset.segment_seconds)
    with publishing(REPORT) as directory:
        print(write_report(params.runs, methods, params.report, sources, directory))
        cache = Cache(params.cache.dir)
        _, manifest, jobs = read_clips(params, cache)
        pictures(read_rows(params.runs, ROWS, LIVE), INDEX, manifest, jobs, cache, directory)


if __name__ == "__main__":
    run("report", main)
