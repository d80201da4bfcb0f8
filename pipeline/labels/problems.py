"""Checks of the block ``labels`` beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.labels.streams import STREAMS
from pipeline.registry import suggest
from pipeline.schema import block, mapping


def problems(params: Mapping[str, Any]) -> list[str]:
    """Check that the feature sets exist, and that names in data/features/ are unique."""
    features, imports = block(params, "features"), block(params, "imports")
    found = []
    for name, entry in block(params, "labels").items():
        path = f"labels.{name}"
        found += [
            f"{path}: {other}.{name} exists as well; rename one of them"
            for other in ("features", "imports")
            if name in block(params, other)
        ]
        for key in ("features", "teachers"):
            named = mapping(entry).get(key)
            if isinstance(named, str) and named not in features and named not in imports:
                found.append(f"{path}.{key}: unknown feature set {named!r}{suggest(named, [*features, *imports])}")
        outputs = mapping(features.get(str(mapping(entry).get("teachers"))))
        for modality in ("audio", "visual"):
            teacher = mapping(mapping(entry).get(modality))
            if (teacher.get("texts") or teacher.get("classes")) and mapping(outputs.get(modality)).get("weights") == "none":
                found.append(
                    f"{path}.{modality}: features.{mapping(entry)['teachers']}.{modality}.weights is none, and a teacher of random weights"
                    " knows nothing; name its weights"
                )
        taken = [stream for stream in mapping(mapping(imports.get(str(mapping(entry).get("features")))).get("others")) if stream in STREAMS]
        found += [f"{path}.features: {mapping(entry)['features']} has a stream {stream!r} already; rename that one" for stream in taken]
    return found
