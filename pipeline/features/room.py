"""Estimate what an extraction or an import writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import Cache
from pipeline.disk import size_in_words
from pipeline.disk_room import Writing, in_cache
from pipeline.encoders import ENCODERS, create
from pipeline.features.clip_encoder import Clip, ClipEncoder
from pipeline.features.frames import needing_frames
from pipeline.features.plan import segment_shape
from pipeline.features.settings import FeatureSet
from pipeline.features.store import INDEX, entry_shapes
from pipeline.media.job import Job
from pipeline.media.room import ENTRY_BYTES, average
from pipeline.tables import read_table


def entry_bytes(spec: Mapping[str, Any]) -> int:
    """Bytes of the numbers of one entry in a store with this spec."""
    return sum(int(np.prod(shape)) for shape in entry_shapes(dict(spec)).values()) * np.dtype(spec["dtype"]).itemsize


def store_writing(spec: Mapping[str, Any], count: int, place: Path, smaller: tuple[str, ...], there: int = 0) -> Writing:
    """The store of ``count`` entries that an extraction or an import writes, less the bytes that are ``there`` already."""
    return Writing(f"the store of {count} entries in {spec['dtype']}", max(0, count * entry_bytes(spec) - there), place, smaller)


def extraction_room(
    name: str, encoder: ClipEncoder, spec: Mapping[str, Any], clips: Sequence[Clip], missing: Sequence[Clip], place: Path | None
) -> list[Writing]:
    """What an extraction writes: features and perhaps frames into the cache, and the store.

    Args:
        name: of the feature set.
        clips: all of the store; missing: those to be encoded.
        place: of the store; None: only the cache is filled.
    """
    smaller, cache = smaller_with(name, spec), encoder.cache
    features = len(missing) * (entry_bytes(spec) + 2 * ENTRY_BYTES) if missing else 0
    found = in_cache(cache, f"features of {len(missing)} clips in {spec['dtype']}" if missing else "new features", features, smaller)
    if missing and missing[0].job.settings.keep == "frames" and (bare := needing_frames(missing, encoder)):
        each = average([clip.job for clip in bare], cache)
        size = len(bare) * (each.frames + each.sound)
        found += in_cache(cache, f"frames and sound of {len(bare)} clips", size, (f"media.keep: verdicts (less {size_in_words(size)})",))
    return found if place is None else [*found, store_writing(spec, len(clips), place, smaller)]


def store_room(name: str, spec: Mapping[str, Any], count: int, place: Path, cache: Cache | None = None) -> list[Writing]:
    """What a stage will write for a store of ``count`` entries, before its clips are known.

    Nothing, if a store of so many is at ``place``.

    Args:
        cache: of the clips that are extracted; None for an import.
    """
    made = len(read_table(place / INDEX)) if (place / INDEX).is_file() else 0
    if made == count:
        return [Writing("a store that is made", 0, place)]
    smaller = smaller_with(name, spec) if cache else (f"imports.{name}.dtype: float16",)
    new = (count - min(made, count)) * (entry_bytes(spec) + 2 * ENTRY_BYTES)
    features = in_cache(cache, f"features of {count - made} clips in {spec['dtype']}", new, smaller) if cache else []
    return [*features, store_writing(spec, count, place, smaller)]


def smaller_with(name: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings that make the features of a set smaller."""
    shapes = spec["shapes"]
    halved = (f"features.{name}.dtype: float16 (half)",) if spec["dtype"] == "float32" else ()
    pooled = (f"features.{name}.visual.pool: average",) if len(shapes["visual"]) > 2 else ()
    return (*halved, *pooled, f"features.{name}.visual (an encoder with smaller features)")


def spec_without_weights(settings: FeatureSet, job: Job) -> dict[str, Any]:
    """What of :meth:`pipeline.features.plan.ExtractionPlan.spec` says how large a store is; the encoders' weights need not be there.

    Raises:
        PipelineError: an encoder cannot be made without them.
    """
    shapes = {}
    for modality, choice in (("visual", settings.visual), ("audio", settings.audio)):
        places = ENCODERS.get(choice.encoder).Config.model_fields.keys() & {"weights"}
        encoder = create(choice.encoder, **{**choice.options, **dict.fromkeys(places, "none")})
        shapes[modality] = list(segment_shape(encoder, job))
    return {"segments": job.segments, "dtype": settings.dtype, "shapes": shapes}
