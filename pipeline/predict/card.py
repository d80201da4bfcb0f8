"""The model card of an exported run, in Markdown: what it finds, how well, how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pipeline.cache import file_sha256
from pipeline.encoders.known_weights import KNOWN
from pipeline.sealed import unsealed
from pipeline.tasks import TASKS
from pipeline.training.members import members_of
from pipeline.training.trained import weights_path


def card(model: Mapping[str, Any], facts: Mapping[str, Any], weights: Path, results: Path) -> str:
    """Write the card.

    Args:
        model: the exported ``model.json``.
        facts: those of one of its seeds.
        weights: directory of the run's weights.
        results: directory of the run's evaluation, whose scores are shown where they are of these weights.
    """
    seconds, spans = model["segments"] * model["segment_seconds"], TASKS.get(facts["task"]).overlapping_windows
    found = "finds spans that may overlap" if spans else f"finds events in segments of {model['segment_seconds']:g} s"
    folds = model.get("folds", [])
    of_folds = f", each in the folds {', '.join(map(str, folds))} of a cross-validation" if folds else ""
    lines = [
        f"# {model['run']}",
        "",
        f"A network of the method `{facts['method']}` for the task `{facts['task']}`, trained by avel-pipeline; seeds"
        f" {', '.join(map(str, model['seeds']))}{of_folds}.",
        f"It cuts a film into windows of {seconds:g} s{', half a window apart,' if spans else ''} and {found}.",
        "",
        f"Classes: {', '.join(facts['classes'])}.",
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
        *_encoders(model, facts),
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
        str(seed)
        for seed in seeds
        if all(evaluated.get(each.key) == file_sha256(weights_path(weights, *each)) for each in members_of([seed], folds))
    ]
    yield from ("## Scores", "")
    if not known:
        yield from ("These weights have not been evaluated.", "")
        return
    name = document["headline"]
    for split, of_seeds in document["seeds"].items():
        values = [of_seeds[seed][name] for seed in known if isinstance(of_seeds.get(seed, {}).get(name), int | float)]
        if values:
            spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
            yield f"* {split}: {name} {fmean(values):.2f}{spread} ({len(values)} seed{'s' if len(values) > 1 else ''})"
    yield ""


def _encoders(model: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    """One line for each encoder: its weights, and whether they are in the file."""
    licences = {known.sha256: known.licence for known in KNOWN.values() if known.sha256}
    for modality, spec in facts["feature_spec"]["encoders"].items():
        yield f"* {modality}: `{spec['encoder']}`, version {spec['version']}"
        for setting, digest in spec["weights"].items():
            inside = str(model["features"][modality].get(setting, "")).startswith("weights/")
            licence = next((text for start, text in licences.items() if digest.startswith(start)), None)
            where = "in this file" if inside else "not in this file"
            yield f"  * {setting}: {digest}, {where}{f'; licence: {licence}' if licence else ''}"
