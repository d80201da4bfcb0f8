"""Assemble ``index.html`` from template, styles, scripts and data; it loads nothing but its own media files."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from pipeline.report.page.cells import WORDS, leaving, shown_number, shown_words, with_code
from pipeline.report.page.content import run_content
from pipeline.report.page.gallery import gallery
from pipeline.report.results import RunResult
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import NO_TEST, NOT_RUN, Table
from pipeline.sealed import read_sealed

ROOM = Path(__file__).parent
SCRIPTS = ["choices.js", "tables.js", "charts.js", "gallery.js", "main.js"]


def write_page(
    settings: ReportSettings, results: list[RunResult], tables: tuple[Table, dict[str, Table], list[str]],
    index: tuple[pd.DataFrame, list[str]], health: list[str], clips: Path, segment_seconds: float, directory: Path,
) -> None:  # fmt: skip
    """Write ``index.html`` and ``media/`` into ``directory``.

    Args:
        tables: the results, further tables by title, the lines below them (scores of trivial answers, machines).
        index: annotation rows and class names.
        health: defects found in the annotations.
        clips: the directory that `decode` wrote: the count of clips by status, and what it found to say.
    """
    rows, classes = index
    counts = read_sealed(clips / "summary.json")
    health = [*health, *counts.pop("health", [])]
    data: dict[str, Any] = {
        "classes": [*classes, "background"],
        "baseline": settings.baseline,
        "runs": [run_content(result) for result in results],
        "clips": gallery(results, settings, rows, len(classes), segment_seconds, directory),
    }
    results_table, further, below = tables
    styles = (ROOM / "page.css").read_text(encoding="utf-8")
    scripts = "\n".join((ROOM / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOM), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {one.__name__: one for one in (leaving, shown_number, shown_words, with_code)}
    page = environment.get_template("page.html.jinja").render(
        title=settings.title,
        table=results_table,
        further=further,
        words=WORDS,
        no_score=(NOT_RUN, NO_TEST),
        below=below,
        parts=parts(data["runs"]),
        has_clips=bool(data["clips"]),
        clips=counts,
        health=health,
        policy=policy(styles, scripts),
        styles=Markup(styles),
        scripts=Markup(scripts),
        data=embedded(data),
    )
    (directory / "index.html").write_text(page, encoding="utf-8")


def parts(runs: list[dict[str, Any]]) -> dict[str, str]:
    """The page's parts on chosen runs, by id with their names: those for which some run has data."""
    ran = [run for run in runs if run["ran"]]
    shown = {key.lower(): key for key in ("Confusion", "Reliability") if any(run[key.lower()] for run in ran)}
    classes = {"classes": "Classes"} if any(run["classScores"] for run in ran) else {}
    return {**classes, **shown, "training": "Training"} if ran else {}


def policy(styles: str, scripts: str) -> str:
    """The Content-Security-Policy: only these exact styles and scripts run, and only files beside the page are loaded."""
    style, script = (f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (styles, scripts))
    beside = "'self' file:"  # a page opened from a disk has no origin for 'self' to match
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data: {beside}; media-src {beside};"
        " base-uri 'none'; form-action 'none'"
    )


def embedded(data: dict[str, Any]) -> Markup:
    """Encode as JSON for a script element; no text in it can end the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
