"""What is wrong with ``finetune`` beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.encoders import ENCODERS
from pipeline.features.problems import encoder_problems, finetuned_name
from pipeline.features.settings import NOT_FINETUNED
from pipeline.schema import block, mapping


def problems(params: Mapping[str, Any]) -> list[str]:
    """Every fine-tuning's name, its two encoders, and the weights they start from."""
    finetune = block(params, "finetune")
    return [problem for name, settings in finetune.items() for problem in finetune_problems(f"finetune.{name}", name, mapping(settings))]


def finetune_problems(path: str, name: str, settings: Mapping[str, Any]) -> list[str]:
    """A fine-tuning's name, its two encoders, and the weights they start from."""
    found = []
    if name == NOT_FINETUNED:
        found.append(f"{path}: the name {name!r} cannot be used for a fine-tuned encoder; choose another")
    for modality in ("visual", "audio"):
        choice = mapping(settings.get(modality))
        found += encoder_problems(f"{path}.{modality}", choice, modality)
        encoder = ENCODERS.get(choice["encoder"]) if choice.get("encoder") in ENCODERS.names() else None
        if encoder is not None and getattr(encoder, "sees", "frame") == "segment":
            found.append(f"{path}.{modality}.encoder: {choice['encoder']!r} sees the frames of a segment together; choose one of frames")
        if finetuned_name(choice) is not None:
            found.append(f"{path}.{modality}.weights: start from published weights or a file, not from another fine-tuning")
    return found
