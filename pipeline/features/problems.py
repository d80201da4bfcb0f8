"""Checks of the blocks ``features`` and ``imports`` beyond their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.datasets.base import NO_CLIPS
from pipeline.encoders import ENCODERS
from pipeline.features.settings import NOT_FINETUNED, EncoderChoice
from pipeline.registry import suggest
from pipeline.schema import block, mapping, schema_problems, unknown


def problems(params: Mapping[str, Any]) -> list[str]:
    """Check every feature set's encoders, and that feature sets, fine-tunings, imports and data set agree."""
    dataset, finetune, features, imports = (block(params, name) for name in ("dataset", "finetune", "features", "imports"))
    found: list[str] = []
    for name, feature_set in features.items():
        for modality in ("visual", "audio"):
            found += encoder_problems(f"features.{name}.{modality}", mapping(mapping(feature_set).get(modality)), modality)
        found += finetuned_problems(f"features.{name}", mapping(feature_set), finetune)
    return found + import_problems(dataset, finetune, features, imports)


def encoder_problems(path: str, choice: Mapping[str, Any], modality: str) -> list[str]:
    """Check that the encoder exists, has the modality, and that its own settings are valid."""
    name = choice.get("encoder")
    if not isinstance(name, str):
        return []
    if problems := unknown(f"{path}.encoder", name, ENCODERS):
        return problems
    encoder = ENCODERS.get(name)
    if encoder.modality != modality:
        fitting = [other for other in ENCODERS.names() if ENCODERS.get(other).modality == modality]
        return [f"{path}.encoder: {name!r} encodes {encoder.modality}, not {modality}{suggest(name, fitting)}"]
    options = {key: value for key, value in choice.items() if key not in EncoderChoice.model_fields}
    return list(schema_problems(encoder.Config, options, path))


def finetuned_problems(path: str, feature_set: Mapping[str, Any], finetune: Mapping[str, Any]) -> list[str]:
    """Check that ``finetuned``, which DVC depends on, and ``weights``, which the encoder loads, name the same encoder."""
    if "finetuned" not in feature_set:
        return [f"{path}.finetuned: this key is needed: the entry of `finetune` that trains its encoder, or {NOT_FINETUNED}"]
    name = feature_set["finetuned"]
    if not isinstance(name, str):
        return []  # the schema reports it
    if name not in finetune and name != NOT_FINETUNED:
        return [f"{path}.finetuned: unknown fine-tuning {name!r}{suggest(name, [*finetune, NOT_FINETUNED])}"]
    problems = []
    tuned = mapping(finetune.get(name)) if name != NOT_FINETUNED else {}
    trained = {"visual": ("visual",), "audio": ("audio",), "both": ("visual", "audio")}.get(tuned.get("train", "visual"), ())
    named = {side: finetuned_name(mapping(feature_set.get(side))) for side in ("visual", "audio")}
    if name != NOT_FINETUNED and not any(named.values()):
        side = trained[0] if trained else "visual"
        given = mapping(feature_set.get(side)).get("weights")
        problems.append(f"{path}.{side}.weights: finetuned: {name} needs weights: finetuned/{_of(name, side)} (here: {given!r})")
    for side, of in named.items():
        if of is None:
            continue
        if name == NOT_FINETUNED:
            owner = of.removesuffix("/audio")
            problems.append(f"{path}.finetuned: the weights are finetuned/{of}; set finetuned: {owner}, or other weights")
        elif side not in trained:
            alone = " and the ".join(trained)
            problems.append(f"{path}.{side}.weights: finetuned/{of}: finetune.{name} trains the {alone} encoder alone, not the {side} one")
        elif of != _of(name, side):
            problems.append(f"{path}.{side}.weights: finetuned: {name} needs weights: finetuned/{_of(name, side)} (here: 'finetuned/{of}')")
        else:
            choice, was = mapping(feature_set.get(side)), mapping(tuned.get(side))
            problems += [
                f"{path}.{side}.{key}: {name} fine-tunes {was.get(key)!r} (here: {choice.get(key)!r})"
                for key in ("encoder", "model", "folder", "module")
                if choice.get(key) != was.get(key)
            ]
    return problems


def _of(name: str, side: str) -> str:
    """What follows ``finetuned/`` in the weights of one side of a fine-tuning."""
    return name if side == "visual" else f"{name}/{side}"


def finetuned_name(choice: Mapping[str, Any]) -> str | None:
    """Return NAME of ``weights: finetuned/NAME``; None for other weights."""
    weights = choice.get("weights")
    return weights.removeprefix("finetuned/") if isinstance(weights, str) and weights.startswith("finetuned/") else None


def import_problems(
    dataset: Mapping[str, Any], finetune: Mapping[str, Any], features: Mapping[str, Any], imports: Mapping[str, Any]
) -> list[str]:
    """Check that names in data/features/ are unique, and that only imported features are used without clips."""
    problems = [f"imports.{name}: features.{name} exists as well; rename one of them" for name in imports if name in features]
    if str(dataset.get("clips")).strip("/") == NO_CLIPS.as_posix():
        problems += [
            f"{block}.{name}: needs raw clips, but dataset.clips is {NO_CLIPS}; set it to their place, or empty the block: {block}: {{}}"
            for block, entries in (("finetune", finetune), ("features", features))
            for name in entries
        ]
    for name, settings in imports.items():
        sources = [mapping(mapping(settings).get("visual")), mapping(mapping(settings).get("audio"))]
        if any(source.get("negatives") for source in sources) and not dataset.get("negatives"):
            problems.append(f"imports.{name}: names files of negatives; set dataset.negatives to the number of clips they hold")
    return problems
