"""Model cards: for each run a README.md on its data, features, method, scores, machines and limits.

They lie in the report's out (``data/results/report/runs/RUN``) and not beside the weights: ``models/runs/RUN`` is the out of ``train``,
which ends before anything is scored, and DVC takes a file added there later for a damaged training. An exported run carries its own card
(:mod:`pipeline.predict.card`), of these parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from pipeline.datasets.arrays import MADE_BY
from pipeline.encoders.known_weights import KNOWN
from pipeline.features.settings import NOT_FINETUNED
from pipeline.machine import PROJECT, described, project_version
from pipeline.methods import METHODS, MethodConfig
from pipeline.report.footnotes import departures_of, remarks
from pipeline.report.formats import markdown
from pipeline.report.results import FEATURES, RunResult
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import NOTHING, Table, as_interval, mean_and_std, moments
from pipeline.sealed import read_sealed
from pipeline.tables import read_table
from pipeline.tasks import TASKS

CARD = "README.md"
WORLDS = Path("data/raw")  # where the stage synthesize writes its worlds
LABELS = {
    "segments": "full: the labels of every segment",
    "video": "weak: the labels of whole clips, without times",
    "proportions": "weak: the labels of whole clips, with the share of segments that each takes",
}
SPLITS = {"val": "Validation", "test": "Test", "test_unseen": "Test, without clips that stand in train"}


@dataclass(frozen=True)
class About:
    """What a card says that no out of a stage records.

    synthetic: whether the clips are of a synthetic world.
    commit: of the code that reports; empty if unknown.
    """

    synthetic: bool = False
    commit: str = ""


def is_synthetic(annotations: Path, worlds: Iterable[str]) -> bool:
    """Whether the clips of these annotations are those of a world that the project writes itself (the names in ``synth``)."""
    return any(annotations.is_relative_to(WORLDS / world) for world in worlds)


def write_cards(
    results: Sequence[RunResult], settings: ReportSettings, index: pd.DataFrame, classes: Sequence[str], about: About, directory: Path
) -> None:
    """Write the card of every run with results to ``directory/RUN/README.md``.

    It names no time and no folder of this machine: equal outs give equal cards.

    Args:
        index: the annotation rows, with clip and split.
    """
    for result in results:
        if result.directory is not None:
            place = directory / result.name / CARD
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(card(result, settings, index, classes, about), encoding="utf-8")


def card(result: RunResult, settings: ReportSettings, index: pd.DataFrame, classes: Sequence[str], about: About) -> str:
    """The card of one run with results; see :func:`write_cards`."""
    assert result.directory is not None
    run, document = result.run, read_sealed(result.directory / "metrics.json")
    spec = read_sealed(result.directory / FEATURES) if (result.directory / FEATURES).is_file() else {}
    made = result.params[-1] if result.params else {}  # the sets differ only in what `stale` and the remarks name
    of_method = made.get("settings", {})
    tuned = {entry["finetuned"] for entry in made.get("features", {}).values() if "finetuned" in entry} - {NOT_FINETUNED}
    seeds = f"{len(run.seeds)} seed{'s' if len(run.seeds) > 1 else ''} ({', '.join(map(str, run.seeds))})"
    shapes = ", ".join(f"{stream} {tuple(shape)}" for stream, shape in spec.get("shapes", {}).items())
    folds = f", each in {result.folds['number']} folds" if result.folds else ""
    lines = [
        f"# {result.name}",
        "",
        f"A network of the method `{run.method}` for the task `{run.task}`, trained with {seeds}{folds};"
        f" {result.parameters:,} parameters. Written by {PROJECT} {project_version()}.",
        "",
        "## Data",
        "",
        *_data(result, made, spec, of_method, index, classes),
        "",
        "## Features",
        "",
        f"The feature set `{run.features}`; the shape of a segment: {shapes or 'not recorded'}.",
        "",
        *features(spec),
        *(f"* fine-tuned on the training clips as `{name}`" for name in sorted(tuned)),
        "",
        "## Method",
        "",
        *_method(run.method, of_method, made.get("train", {}), result.headline),
        "",
        *scores(document, result.directory, run.seeds, result.groups),
        "## Limits",
        "",
        *limits(run.task, spec, about.synthetic, len(run.seeds)),
        *(f"* {remark}" for remark in remarks(replace(result, made_by=""), settings, {})),  # that they are made up is said above
        "",
        "## Weights and machines",
        "",
        *(f"* `models/runs/{result.name}/seed-{key}.safetensors`: sha256 {digest}" for key, digest in document["weights"].items()),
        *_machines(result),
        *([f"* Reported with the code of commit {about.commit}"] if about.commit else []),
        "",
    ]
    return "\n".join(lines)


def _data(
    result: RunResult,
    made: Mapping[str, Any],
    spec: Mapping[str, Any],
    of_method: Mapping[str, Any],
    index: pd.DataFrame,
    classes: Sequence[str],
) -> Iterator[str]:
    """The data set, its classes and splits, and what the training was told."""
    dataset = made.get("dataset", {})
    named = f"`{dataset['kind']}`, annotations `{dataset.get('annotations', 'not recorded')}`" if dataset else "not recorded"
    cut = f"{spec['segments']} segments of {spec['segment_seconds']:g} s" if "segments" in spec else "its own segments"
    yield f"* Data set: {named}; a clip has {cut}."
    yield f"* Classes ({len(classes)}): {'; '.join(classes)}."
    if (settings := _today(result.run.method, of_method)) is not None:
        yield f"* Supervision: {LABELS[settings.training_labels]}."
    for split in () if result.folds else ("train", "val", "test"):
        rows = index[index["split"] == split]
        scored = f"; {result.evaluated[split]} scored" if split in result.evaluated else ""
        lacking = f", {len(result.missing[split])} without features" if result.missing.get(split) else ""
        yield f"* {split}: {len(rows)} annotation rows of {rows['clip'].nunique()} clips{scored}{lacking}."
    if result.folds:
        yield f"* Cross-validation: {result.evaluated.get('test', 0)} annotation rows, each tested once."


def features(spec: Mapping[str, Any], inside: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[str]:
    """One line for each encoder of the features, with hash and licence of its weights, or for each published file.

    Args:
        spec: the features' ``spec.json``.
        inside: of an exported run, the encoders' settings by modality, which name the weights that are in the file; else None.
    """
    licences = {known.sha256: known.licence for known in KNOWN.values() if known.sha256}
    if made_by := spec.get(MADE_BY):
        yield f"* made-up numbers, by `{made_by}`"
    for stream, published in spec.get("published", {}).items():
        yield f"* {stream}: published file `{published['file']}`; its encoder, weights and licence are those of whoever published it"
    for modality, encoder in spec.get("encoders", {}).items():
        yield f"* {modality}: `{encoder['encoder']}`, version {encoder['version']}{'' if encoder['weights'] else '; it has no weights'}"
        for setting, digest in encoder["weights"].items():
            licence = next((text for start, text in licences.items() if digest.startswith(start)), "not known here")
            where = "" if inside is None else ", in this file" if _is_inside(inside, modality, setting) else ", not in this file"
            yield f"  * {setting}: sha256 {digest}{where}; licence: {licence}"


def _is_inside(inside: Mapping[str, Mapping[str, Any]], modality: str, setting: str) -> bool:
    return str(inside[modality].get(setting, "")).startswith("weights/")


def _today(method: str, settings: Mapping[str, Any]) -> MethodConfig | None:
    """The recorded settings of a method; None if none were, or by a version that had others."""
    try:
        return METHODS.get(method).Config(**settings) if settings else None
    except ValidationError:
        return None


def _method(name: str, settings: Mapping[str, Any], train: Mapping[str, Any], headline: str) -> Iterator[str]:
    """The settings that matter in a list, and all of them as JSON."""
    if (known := _today(name, settings)) is None:
        yield f"`{name}`; its settings were {'those of another version' if settings else 'not recorded'}."
    else:
        variant = f", variant `{settings['variant']}`" if "variant" in settings else ""
        recipe = known.recipe
        chosen = recipe.selection or headline
        epoch = "the last epoch" if chosen == "last" else f"the epoch of the best {chosen} on validation"
        yield (
            f"`{name}`{variant}: {recipe.optimizer}, learning rate {recipe.learning_rate:g}, batches of {recipe.batch_size},"
            f" {recipe.epochs} epochs, kept: {epoch}. Precision {train.get('precision', 'not recorded')}."
        )
        if departures := list(departures_of(name, settings)):
            yield f"Settings that differ from the defaults (in brackets): {', '.join(departures)}."
    if settings:
        yield from ("", "<details><summary>All settings</summary>", "", "```json", json.dumps(settings, indent=1), "```", "", "</details>")


def scores(document: Mapping[str, Any], directory: Path, seeds: Sequence[int], groups: pd.Series | None = None) -> Iterator[str]:
    """The section of scores: the headline with its interval, further metrics, and trivial answers to the same clips.

    Args:
        document, directory: ``metrics.json`` of an evaluation, and where it lies.
        seeds: those to tell of.
        groups: by annotation row, clips that share a source, which then are drawn together.
    """
    yield from ("## Scores", "")
    task, headline = TASKS.get(document["task"]), document["headline"]
    columns = {split: [of_seeds[str(seed)] for seed in seeds if str(seed) in of_seeds] for split, of_seeds in document["seeds"].items()}
    columns = {split: found for split, found in columns.items() if found}
    if not columns:
        yield from ("Neither val nor test has a clip to score.", "")
        return
    drawn = "clips" if groups is None else "sources"
    lines = [[headline, *(_cell(found, headline) for found in columns.values())]]
    lines.append([f"[95 %], over {drawn}", *(_interval(task, directory, split, seeds, groups) for split in columns)])
    lines += [[name, *(_cell(found, name) for found in columns.values())] for name in task.SECONDARY]
    trivial = {key for found in columns.values() for metrics in found for key in metrics if key.startswith("baseline_")}
    of_trivial = [key for found in columns.values() for key in found[0] if key in trivial]
    for key in dict.fromkeys(of_trivial):
        name = key.removeprefix("baseline_").replace("_", " ")
        lines.append([f"trivial answer: {name}", *(_cell(found[:1], key) for found in columns.values())])
    yield markdown(Table(["Metric", *(SPLITS.get(split, split) for split in columns)], lines))
    for split, found in columns.items():
        if len(found) > 1:
            yield f"{SPLITS.get(split, split)}, seed by seed: {', '.join(_cell([metrics], headline) for metrics in found)}.  "
    yield ""


def _cell(of_seeds: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Mean and spread over the seeds that have a metric."""
    values = [float(metrics[metric]) for metrics in of_seeds if isinstance(metrics.get(metric), int | float)]
    return mean_and_std(moments(values)) or NOTHING


def _interval(task: Any, directory: Path, split: str, seeds: Sequence[int], groups: pd.Series | None) -> str:
    """The interval of the mean over seeds; of val and test as they are."""
    if split not in ("val", "test"):
        return NOTHING
    filters = [("split", "==", split), ("seed", "in", list(seeds))]
    lines = read_table(directory / "predictions.parquet", columns=["row", "seed", *task.COMPARED], filters=filters)
    found = task.compare(lines, None, groups)
    return NOTHING if found is None else as_interval(found.low, found.high)


def limits(task: str, spec: Mapping[str, Any], synthetic: bool, seeds: int) -> Iterator[str]:
    """What the scores do not say, and what the network must not be used for."""
    if spec.get(MADE_BY):
        yield "* The features are made-up numbers: no score here says anything of the method or of any data set."
    if synthetic:
        yield "* The clips are drawn by a program: the scores order methods in that world and say nothing of real films."
    yield "* The network knows the classes above and no others. Whatever else is heard and seen gets one of them, or background."
    if spec.get("segment_seconds") and not TASKS.get(task).overlapping_windows:
        yield f"* Its answers are whole segments of {spec['segment_seconds']:g} s: an event's borders are known no better."
    yield "* The scores are of clips that resemble the training clips. Those of films from elsewhere were not measured; expect less."
    yield "* The interval is over test clips: it says nothing of other data, and the seeds' spread stands beside the mean."
    if seeds == 1:
        yield "* One seed: how far another would land was not measured."
    yield "* Not made or tested for surveillance, safety, or any decision about a person, and not to be used for them."


def _machines(result: RunResult) -> Iterator[str]:
    """Each machine with the work that it did and the version that did it."""
    works: dict[str, list[str]] = {}
    for work, machines in result.machines.items():
        for machine in machines:
            version = machine.get("versions", {}).get(PROJECT)
            works.setdefault(described(machine) + (f", {PROJECT} {version}" if version else ""), []).append(work)
    yield from (f"* {'; '.join(dict.fromkeys(done))}: {text}" for text, done in works.items())
