"""The model card of an exported run, in Markdown: what it finds, how well, how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.cache import file_sha256
from pipeline.machine import PROJECT, project_version
from pipeline.report.cards import features, limits, scores
from pipeline.sealed import unsealed
from pipeline.tasks import TASKS
from pipeline.training.members import members_of
from pipeline.training.trained import weights_path


def card(model: Mapping[str, Any], facts: Mapping[str, Any], weights: Path, results: Path, synthetic: bool) -> str:
    """Write the card, of the parts of a run's own in the report.

    Args:
        model: the exported ``model.json``.
        facts: those of one of its seeds.
        weights: directory of the run's weights.
        results: directory of the run's evaluation, whose scores are shown where they are of these weights.
        synthetic: whether the clips are of a synthetic world.
    """
    seconds, spans = model["segments"] * model["segment_seconds"], TASKS.get(facts["task"]).overlapping_windows
    found = "finds spans that may overlap" if spans else f"finds events in segments of {model['segment_seconds']:g} s"
    folds = model.get("folds", [])
    of_folds = f", each in the folds {', '.join(map(str, folds))} of a cross-validation" if folds else ""
    lines = [
        f"# {model['run']}",
        "",
        f"A network of the method `{facts['method']}` for the task `{facts['task']}`, trained by {PROJECT} and exported by its version"
        f" {project_version()}; seeds {', '.join(map(str, model['seeds']))}{of_folds}.",
        f"It cuts a film into windows of {seconds:g} s{', half a window apart,' if spans else ''} and {found}.",
        "",
        f"Classes: {'; '.join(facts['classes'])}.",
        "",
        "## Use",
        "",
        "```bash",
        f"python -m pipeline predict film.mp4 --model {model['run']}.avel",
        "```",
        "",
        *_scores(model["seeds"], folds or None, weights, results),
        "## Features",
        "",
        *features(facts["feature_spec"], model["features"]),
        "",
        "## Limits",
        "",
        *limits(facts["task"], facts["feature_spec"], synthetic, len(model["seeds"])),
        "",
        "## Made with",
        "",
        "```json",
        json.dumps({key: facts[key] for key in ("settings", "train", "made_with", "machines") if key in facts}, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _scores(seeds: Sequence[int], folds: Sequence[int] | None, weights: Path, results: Path) -> Iterator[str]:
    """The scores of the exported seeds, as far as these weights have been evaluated."""
    path = results / "metrics.json"
    document = unsealed(path.read_text(encoding="utf-8")) if path.is_file() else {"weights": {}}
    evaluated = document["weights"]
    known = [
        seed
        for seed in seeds
        if all(evaluated.get(each.key) == file_sha256(weights_path(weights, *each)) for each in members_of([seed], folds))
    ]
    if known:
        groups = pd.Series({int(row): group for row, group in document["groups"].items()}) if "groups" in document else None
        yield from scores(document, results, known, groups)
    else:
        yield from ("## Scores", "", "These weights have not been evaluated.", "")
