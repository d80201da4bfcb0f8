"""How the features of single files are made: by an entry of params.yaml, or by two encoders named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config
from pipeline.errors import InputProblems
from pipeline.features.problems import encoder_problems
from pipeline.features.settings import FeatureSet
from pipeline.features.store import MODALITIES
from pipeline.media.settings import MediaSettings
from pipeline.media.windowing import Windowing
from pipeline.schema import schema_problems


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the features of a file: encoders, sampling, and windows of T segments."""

    features: FeatureSet
    media: MediaSettings
    windowing: Windowing


def project_recipe(name: str, params: Path = Path("params.yaml"), device: str | None = None) -> Recipe:
    """Return the recipe of an entry of ``features``: files get the features that `extract` would store for them.

    Args:
        params: params.yaml of a project, or one of suites/.
        device: in place of the entry's.

    Raises:
        InputProblems: every problem of the file.
        UnknownName: no such entry.
    """
    found = config.load(params)
    settings = config.pick(found.features, name, "feature set")
    if device:
        settings = settings.model_copy(update={"device": device})
    return Recipe(settings, found.media, Windowing(found.dataset.segments, found.dataset.segment_seconds))


def recipe(
    visual: str | Mapping[str, Any],
    audio: str | Mapping[str, Any],
    *,
    media: Mapping[str, Any] | None = None,
    segments: int = 10,
    segment_seconds: float = 1.0,
    **stored: Any,
) -> Recipe:
    """Return the recipe of two encoders.

    Each is a name, or a mapping with the key ``encoder`` and the encoder's own settings.

    Args:
        media: settings of the block ``media`` that differ from the defaults: frames_per_second, frame_size ...
        segments, segment_seconds: windows; a segment is one row of the features.
        stored: ``dtype``, ``precision``, ``batch_size`` and ``device``, as in the block ``features``.

    Raises:
        InputProblems: every unknown name and wrong value.
    """
    choices = {
        modality: {"encoder": choice} if isinstance(choice, str) else dict(choice)
        for modality, choice in zip(MODALITIES, (visual, audio), strict=True)
    }
    problems = [*schema_problems(FeatureSet, {**choices, **stored}, ""), *schema_problems(MediaSettings, media or {}, "media")]
    for name, choice in choices.items():
        problems += encoder_problems(name, choice, name)
    if segments < 1 or not segment_seconds > 0:
        problems.append(f"segments and segment_seconds must be above 0 (here: {segments}, {segment_seconds:g})")
    if problems:
        raise InputProblems("settings of the features", problems)
    sampling = MediaSettings.model_validate(media or {})
    sampling.frames_per_segment(segment_seconds)
    return Recipe(FeatureSet.model_validate({**choices, **stored}), sampling, Windowing(segments, segment_seconds))


def spec_differences(then: Any, now: Any, when: str, path: str = "") -> list[str]:
    """List the differences between the specs of features made ``when`` and now, each with its dotted path."""
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [*then, *(key for key in now if key not in then)]
        return [line for key in keys for line in spec_differences(then.get(key), now.get(key), when, f"{path}.{key}" if path else key)]
    return [] if then == now else [f"{path}: {then!r} {when}, {now!r} now"]
