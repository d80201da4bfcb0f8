"""Plan of an extraction: the clips of a feature set, their cache keys, and the clips missing from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.cache import fingerprint
from pipeline.encoders import Encoder, VisualEncoder
from pipeline.features.clip_encoder import EXTRACT_VERSION, KIND, Clip, ClipEncoder
from pipeline.features.passes import pass_size
from pipeline.features.settings import FeatureSet
from pipeline.media.clip import GOOD
from pipeline.media.job import Job


def feature_key(decoded: str, settings: FeatureSet, spec: Mapping[str, Any], device: str) -> str:
    """The cache key of a clip's features in one modality.

    Args:
        decoded: key of the decoded clip.
        settings: the entry of ``features``.
        spec: of the modality's encoder.
        device: kind of the device that encodes, "cpu" or "cuda".
    """
    how = (settings.dtype, settings.precision)
    return fingerprint(EXTRACT_VERSION, decoded, spec, how, pass_size(settings.batch_size, device), *([] if device == "cpu" else [device]))


class ExtractionPlan:
    """The clips of one feature set.

    Args:
        encoder: the encoders of the feature set.
        jobs: how each clip was decoded, by id.
    """

    def __init__(self, encoder: ClipEncoder, jobs: dict[str, Job]) -> None:
        self.encoder, self.jobs = encoder, jobs
        self._specs = {modality: each.spec() for modality, each in encoder.encoders.items()}

    def clips(self, manifest: pd.DataFrame) -> list[Clip]:
        """Clips to encode: those with a good verdict, in the order of the manifest."""
        return [self.clip(verdict) for verdict in manifest[manifest["status"].isin(GOOD)].to_dict("records")]

    def clip(self, verdict: dict[str, Any]) -> Clip:
        """Turn one line of the manifest into a clip with its cache keys."""
        job = self.jobs[verdict["clip"]]
        keys = self.keys(job)
        inside = [second * job.segment_seconds < verdict["seconds"] for second in range(job.segments)]
        facts = {name: verdict[name] for name in ("clip", "status")}
        facts |= {"valid": inside, "visual_valid": list(verdict["visual_valid"]), "audio_valid": list(verdict["audio_valid"])}
        facts |= {f"{modality}_key": key for modality, key in keys.items()}
        return Clip(facts, job, keys)

    def keys(self, job: Job) -> dict[str, str]:
        """The cache keys of a clip's features by modality."""
        settings, device = self.encoder.settings, self.encoder.device.type
        return {modality: feature_key(job.key, settings, spec, device) for modality, spec in self._specs.items()}

    def missing(self, clips: list[Clip]) -> list[Clip]:
        """Clips with a modality missing from the cache, one for each content: clips with the same bytes share features."""
        cache = self.encoder.cache
        there = cache.present(KIND, (key for clip in clips for key in clip.keys.values()))
        return list({tuple(clip.keys.values()): clip for clip in clips if not there.issuperset(clip.keys.values())}.values())

    def spec(self, job: Job | None) -> dict[str, Any]:
        """Everything that determines the numbers of a store, as plain JSON.

        Args:
            job: how one of the clips was decoded; None for an empty store.
        """
        settings, encoders = self.encoder.settings, self.encoder.encoders
        return {
            "segments": job.segments if job else 0,
            "segment_seconds": job.segment_seconds if job else 0.0,
            "dtype": settings.dtype,
            "precision": settings.precision,
            "media": job.sampling if job else {},
            "shapes": {modality: list(segment_shape(encoder, job)) for modality, encoder in encoders.items()},
            "encoders": {modality: encoder.spec() for modality, encoder in encoders.items()},
        }


def segment_shape(encoder: Encoder, job: Job | None) -> tuple[int, ...]:
    """Shape of a stored segment: ``output_shape``, or (frames, *output_shape) if the encoder keeps frames apart."""
    if job is None or not (isinstance(encoder, VisualEncoder) and encoder.frames == "keep"):
        return encoder.output_shape
    return (job.settings.frames_per_segment(job.segment_seconds), *encoder.output_shape)
