"""Plan of an extraction: the clips of a feature set, their cache keys, and the clips missing from the cache."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pandas as pd

from pipeline.cache import fingerprint
from pipeline.encoders import Encoder, VisualEncoder
from pipeline.features.clip_encoder import EXTRACT_VERSION, KIND, Clip, ClipEncoder
from pipeline.media.clip import GOOD
from pipeline.media.job import Job


class ExtractionPlan:
    """The clips of one feature set.

    Args:
        encoder: the encoders of the feature set.
        jobs: how each clip was decoded, by id.
    """

    def __init__(self, encoder: ClipEncoder, jobs: dict[str, Job]) -> None:
        self.encoder, self.jobs = encoder, jobs

    def clips(self, manifest: pd.DataFrame) -> list[Clip]:
        """Clips to encode: those with a good verdict, in the order of the manifest."""
        return [self.clip(verdict) for verdict in manifest[manifest["status"].isin(GOOD)].to_dict("records")]

    def clip(self, verdict: dict[str, Any]) -> Clip:
        """Turn one line of the manifest into a clip with its cache keys."""
        job = self.jobs[verdict["clip"]]
        keys = {modality: fingerprint(EXTRACT_VERSION, job.key, *how) for modality, how in self._how.items()}
        inside = [second * job.segment_seconds < verdict["seconds"] for second in range(job.segments)]
        facts = {name: verdict[name] for name in ("clip", "status")}
        facts |= {"valid": inside, "visual_valid": list(verdict["visual_valid"]), "audio_valid": list(verdict["audio_valid"])}
        facts |= {f"{modality}_key": key for modality, key in keys.items()}
        return Clip(facts, job, keys)

    @cached_property
    def _how(self) -> dict[str, tuple[Any, ...]]:
        """What makes the numbers of a decoded clip's features, by modality."""
        settings = self.encoder.settings
        where = () if self.encoder.device.type == "cpu" else (self.encoder.device.type,)
        return {
            modality: (encoder.spec(), (settings.dtype, settings.precision), self.encoder.passes[modality].size, *where)
            for modality, encoder in self.encoder.encoders.items()
        }

    def missing(self, clips: list[Clip]) -> list[Clip]:
        """Clips with a modality missing from the cache, one for each content: clips with the same bytes share features."""
        cache = self.encoder.cache
        lacking = {tuple(clip.keys.values()): clip for clip in clips if not all(cache.has(KIND, key) for key in clip.keys.values())}
        return list(lacking.values())

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
            "shapes": {modality: list(_segment_shape(encoder, job)) for modality, encoder in encoders.items()},
            "encoders": {modality: encoder.spec() for modality, encoder in encoders.items()},
        }


def _segment_shape(encoder: Encoder, job: Job | None) -> tuple[int, ...]:
    """Shape of a stored segment: ``output_shape``, or (frames, *output_shape) if the encoder keeps frames apart."""
    if job is None or not (isinstance(encoder, VisualEncoder) and encoder.frames == "keep"):
        return encoder.output_shape
    return (job.settings.frames_per_segment(job.segment_seconds), *encoder.output_shape)
