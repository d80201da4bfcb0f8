"""Checks of the block ``report`` beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pipeline.registry import suggest
from pipeline.report.published import PATH as PUBLISHED
from pipeline.report.published import load_published
from pipeline.schema import block, mapping
from pipeline.tasks import TASKS


def problems(params: Mapping[str, Any]) -> list[str]:
    """Check that the report names known runs and published numbers, and compares only runs of one task."""
    report, runs = block(params, "report"), block(params, "runs")
    baseline, papers = report.get("baseline"), mapping(report.get("papers"))
    shown = report.get("shown") if isinstance(report.get("shown"), list) else []
    named = [("report.baseline", baseline)] if baseline is not None else []
    named += [(f"report.{key}", run) for key in ("papers", "notes", "dense_labels") for run in mapping(report.get(key))]
    named += [("report.shown", run) for run in shown or []]
    comparisons = {run: others for run, others in mapping(report.get("comparisons")).items() if isinstance(others, list)}
    named += [(f"report.comparisons.{run}", name) for run, others in comparisons.items() for name in [run, *others]]
    named += [(f"report.baselines.{key}", run) for key, run in mapping(report.get("baselines")).items()]
    # the schema reports values that are not text
    found = [f"{path}: unknown run {run!r}{suggest(run, runs)}" for path, run in named if isinstance(run, str) and run not in runs]
    pairs = ((run, other) for run, others in comparisons.items() for other in others if isinstance(other, str))
    for run, other in ((run, other) for run, other in pairs if {run, other} <= set(runs)):
        if (task := mapping(runs[run]).get("task")) != (its := mapping(runs[other]).get("task")):
            found.append(f"report.comparisons.{run}: {other} is a run of {its}, {run} of {task}; only runs of one task can be compared")
    found += baseline_problems(mapping(report.get("baselines")), runs)
    for run, key in papers.items():
        if isinstance(key, str) and key not in (published := load_published()):
            near = ", ".join(map(repr, get_close_matches(key, published, n=3, cutoff=0.4))) or "none"
            found.append(f"report.papers.{run}: no published number has the key {key!r}; similar keys: {near} (all: {PUBLISHED})")
    return found


def baseline_problems(baselines: Mapping[str, Any], runs: Mapping[str, Any]) -> list[str]:
    """Check that each key is a run or a task, and its baseline a run of the same task."""
    found = []
    for key, run in baselines.items():
        if not isinstance(run, str):
            continue
        task = mapping(runs[key]).get("task") if key in runs else key
        other = mapping(runs.get(run)).get("task")
        if key not in runs and key not in TASKS.names():
            found.append(f"report.baselines.{key}: neither a run nor a task{suggest(str(key), [*runs, *TASKS.names()])}")
        elif run in runs and task != other:
            found.append(f"report.baselines.{key}: {run} is a run of {other}, not of {task}; their scores cannot be compared")
    return found
