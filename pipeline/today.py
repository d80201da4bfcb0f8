"""Compare the published report with today's params.yaml, for the commands ``table`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path

from pipeline import config
from pipeline.errors import PipelineError
from pipeline.made_from import run_params
from pipeline.report.provenance import news

REPORT = Path("data/results/report")


def news_since_report(root: Path) -> list[str]:
    """Changes in params.yaml since the report in ``root`` was made, one sentence per run."""
    try:
        params = config.load(root / "params.yaml")
    except PipelineError as error:
        return [f"not compared with today's params: {' '.join(str(error).split())}"]
    return news(root / REPORT, params.runs, {name: run_params(params, name) for name in params.runs})
