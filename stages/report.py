"""All rows -> data/results/report: the metrics file of `dvc exp show`, tables, figures, the page."""

from pipeline import config
from pipeline.report import write_report
from pipeline.stage import publishing, run
from stages.paths import CLIPS, INDEX, PARAMS, REPORT, ROWS


def main() -> None:
    params = config.load(PARAMS)
    with publishing(REPORT) as directory:
        print(write_report(params.runs, params.report, ROWS, INDEX, CLIPS, directory))


if __name__ == "__main__":
    run("report", main)
