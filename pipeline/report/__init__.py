"""Rows -> one metrics file for `dvc exp show`, tables, figures, an HTML page."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jinja2
import pandas as pd

from pipeline.report.figures import draw_curves, draw_rows
from pipeline.report.results import RowResult, read_rows, validation_curves
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import baselines_text, markdown, results_table
from pipeline.training.settings import Run

__all__ = ["ReportSettings", "write_report"]


def write_report(runs: dict[str, Run], settings: ReportSettings, rows: Path, index: Path, clips: Path, directory: Path) -> str:
    """Write everything a person or `dvc` reads of the rows into ``directory``; returns the table as Markdown.

    Args:
        rows, index, clips: where `evaluate`, `index` and `decode` left their outs.
    """
    results = read_rows(runs, rows)
    table = results_table(results, settings.baseline)
    text = f"{markdown(table, settings.baseline)}\n{baselines_text(results)}"
    curves = validation_curves(results)
    (directory / "table.md").write_text(text)
    table.to_csv(directory / "table.csv", index=False)
    table[["row", "mean", "std"]].dropna(subset=["mean"]).round(2).to_csv(directory / "rows.csv", index=False)
    curves.to_csv(directory / "validation.csv", index=False)
    (directory / "metrics.json").write_text(json.dumps(experiment_metrics(results), indent=1) + "\n")
    draw_rows(results, directory / "rows.png")
    draw_curves(curves, directory / "curves.png")
    write_page(settings, table, baselines_text(results), index, clips, directory)
    return text


def experiment_metrics(results: list[RowResult]) -> dict[str, dict[str, float | None]]:
    """What `dvc exp show` reads: per row the headline metric's mean and standard deviation over seeds, two decimals."""
    return {
        result.name: {result.headline: round(result.mean, 2), "std": None if result.std is None else round(result.std, 2)}
        for result in results
        if result.scores
    }


def write_page(settings: ReportSettings, table: pd.DataFrame, baselines: str, index: Path, clips: Path, directory: Path) -> None:
    """``index.html``, self-contained."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    pictures = {name: base64.b64encode((directory / f"{name}.png").read_bytes()).decode() for name in ("rows", "curves")}
    page = environment.get_template("page.html.jinja").render(
        title=settings.title,
        baseline=settings.baseline,
        lines=table.to_dict("records"),
        baselines=baselines,
        rows_png=pictures["rows"],
        curves_png=pictures["curves"],
        clips=json.loads((clips / "summary.json").read_text()),
        health=json.loads((index / "health.json").read_text()),
    )
    (directory / "index.html").write_text(page)
