"""All rows -> data/results/report: the metrics file of `dvc exp show`, tables, figures, the page."""

from pipeline import config
from pipeline.report.report import Sources, write_report
from pipeline.stage import publishing, run
from stages.paths import CLIPS, INDEX, LIVE, PARAMS, REPORT, ROWS


def main() -> None:
    params = config.load(PARAMS)
    methods = {name: params.method_settings(name) for name in params.runs}
    sources = Sources(ROWS, INDEX, CLIPS, LIVE, params.dataset.segment_seconds)
    with publishing(REPORT) as directory:
        print(write_report(params.runs, methods, params.report, sources, directory))


if __name__ == "__main__":
    run("report", main)
