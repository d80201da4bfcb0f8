"""Checks of the block ``runs`` beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.encoders.weights import FINETUNED
from pipeline.features.settings import NOT_FINETUNED
from pipeline.labels.streams import STREAMS
from pipeline.methods import METHODS, MethodConfig
from pipeline.registry import suggest
from pipeline.schema import block, mapping, schema_problems, unknown
from pipeline.settings import merge
from pipeline.tasks import TASKS


def problems(params: Mapping[str, Any]) -> list[str]:
    """Check every run's task, method, feature set and overrides, and that they go together."""
    sets = {**block(params, "features"), **block(params, "imports")}
    streams = {name: mapping(mapping(entry).get("others")) for name, entry in sets.items()}
    for name, entry in block(params, "labels").items():
        of_features = streams.get(str(mapping(entry).get("features")), {})
        streams[name] = {**of_features, **{stream: {"training_only": True} for stream in STREAMS}}
    methods, runs, segments = block(params, "methods"), block(params, "runs"), block(params, "dataset").get("segments")
    found = [problem for name, run in runs.items() for problem in run_problems(f"runs.{name}", mapping(run), streams, methods, segments)]
    return found + (fold_problems(params) if block(params, "dataset").get("folds") is not None else [])


def fold_problems(params: Mapping[str, Any]) -> list[str]:
    """List what folds cannot go with: what was made of the annotations' training clips, or is of their test clips."""
    found, sets, imports = [], block(params, "features"), block(params, "imports")
    if block(params, "train").get("published_protocol") is True:
        found.append("train.published_protocol: it scores one fixed test split, and dataset.folds have none; remove one of the two")
    if mapping(block(params, "report").get("papers")):
        found.append("report.papers: papers score one fixed test split, and dataset.folds have none; remove one of the two")
    for name, run in block(params, "runs").items():
        features = str(mapping(run).get("features"))
        feature_set = mapping(sets.get(features))
        given = [Path(str(mapping(feature_set.get(side)).get("weights", ""))) for side in ("visual", "audio")]
        if feature_set.get("finetuned", NOT_FINETUNED) != NOT_FINETUNED or any(FINETUNED in path.parents for path in given):
            found.append(
                f"runs.{name}.features: the encoder of {features} was fine-tuned on the annotations' training clips, which dataset.folds"
                " test too; choose features of frozen encoders"
            )
        if features in block(params, "labels"):
            found.append(f"runs.{name}.features: {features} labels the annotations' training clips alone, and dataset.folds train on all")
        for stream, source in mapping(mapping(imports.get(features)).get("others")).items():
            if mapping(source).get("training_only"):
                found.append(
                    f"runs.{name}.features: the stream {stream!r} of {features} covers the annotations' training clips only, and"
                    " dataset.folds train on all; choose features without it"
                )
    return found


def run_problems(
    path: str, run: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], methods: Mapping[str, Any], segments: Any
) -> list[str]:  # fmt: skip
    """Check one run.

    Args:
        features: by feature set, the settings of its streams other than visual and audio.
        segments: ``dataset.segments`` as given.
    """
    found = unknown(f"{path}.task", run.get("task"), TASKS) + unknown(f"{path}.method", run.get("method"), METHODS)
    feature_set, method = run.get("features"), run.get("method")
    if isinstance(feature_set, str) and feature_set not in features:
        found.append(f"{path}.features: unknown feature set {feature_set!r}{suggest(feature_set, features)}")
    if method not in METHODS.names():
        return found
    if method not in methods:
        found.append(f"{path}.method: the block methods.{method} is missing; add it (it may be empty: {{}})")
    if run.get("task") in TASKS.names() and run["task"] not in METHODS.get(method).tasks:
        found.append(f"{path}.task: {method} does not support {run['task']!r} (supported: {', '.join(sorted(METHODS.get(method).tasks))})")
    own = mapping(methods.get(method))
    if not list(schema_problems(METHODS.get(method).Config, own, "")):  # otherwise reported once, for the method
        settings = merge(own, mapping(run.get("overrides")))
        of_method = list(schema_problems(METHODS.get(method).Config, settings, f"{path}.overrides"))
        if not of_method:
            config = METHODS.get(method).Config.model_validate(settings)
            if config.tied_segments not in (None, segments):
                of_method.append(
                    f"{path}: {method} is built for clips of {config.tied_segments} segments, and dataset.segments is {segments}; set"
                    f" methods.{method}.segments to {segments}"
                )
            if isinstance(feature_set, str) and feature_set in features:
                of_method += stream_problems(path, config, feature_set, features[feature_set])
        found += of_method
    return found


def stream_problems(path: str, config: MethodConfig, feature_set: str, others: Mapping[str, Any]) -> list[str]:
    """List streams that a run's method needs and its feature set lacks, or has for training clips only."""
    found = [
        f"{path}.features: {feature_set} has no stream {stream!r}, which the method needs; choose another feature set, or settings"
        f" without it{suggest(stream, others)}"
        for stream in (*config.streams, *config.label_streams)
        if stream not in others
    ]
    for stream in config.streams:
        if mapping(others.get(stream)).get("training_only"):
            found.append(f"{path}.features: the stream {stream!r} of {feature_set} covers training clips only, so it holds no features")
    return found
