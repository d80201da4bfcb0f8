"""Checks of the block ``finetune`` beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.encoders import ENCODERS
from pipeline.features.problems import encoder_problems, finetuned_name
from pipeline.features.settings import NOT_FINETUNED
from pipeline.schema import block, mapping


def problems(params: Mapping[str, Any]) -> list[str]:
    """Check every fine-tuning's name, its two encoders, and their initial weights."""
    finetune = block(params, "finetune")
    return [problem for name, settings in finetune.items() for problem in finetune_problems(f"finetune.{name}", name, mapping(settings))]


def finetune_problems(path: str, name: str, settings: Mapping[str, Any]) -> list[str]:
    """Check one fine-tuning's name, its two encoders, and their initial weights."""
    found = []
    if name == NOT_FINETUNED:
        found.append(f"{path}: the name {name!r} is reserved; choose another for a fine-tuned encoder")
    for modality in ("visual", "audio"):
        choice = mapping(settings.get(modality))
        found += encoder_problems(f"{path}.{modality}", choice, modality)
        encoder = ENCODERS.get(choice["encoder"]) if choice.get("encoder") in ENCODERS.names() else None
        if encoder is not None and getattr(encoder, "sees", "frame") == "segment":
            found.append(f"{path}.{modality}.encoder: {choice['encoder']!r} encodes a segment's frames together; choose one of frames")
        trains = settings.get("train", "visual") in (modality, "both")
        if encoder is not None and trains and "weights" not in encoder.Config.model_fields:
            found.append(f"{path}.train: {choice['encoder']!r} has no weights to train; choose another encoder, or train the other one")
        if finetuned_name(choice) is not None:
            found.append(f"{path}.{modality}.weights: must be published weights or a file, not another fine-tuning")
    return found
