"""What an extraction has to make: the clips of a feature set, the cache keys of their features, and those that the cache lacks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.cache import fingerprint
from pipeline.encoders import Encoder, VisualEncoder
from pipeline.features.encode import EXTRACT_VERSION, KIND, Clip, ClipEncoder
from pipeline.media.clip import GOOD
from pipeline.media.decoding import Job


class ExtractionPlan:
    """The clips of one feature set.

    Args:
        encoder: of the feature set.
        jobs: how each clip was decoded, by id.
    """

    def __init__(self, encoder: ClipEncoder, jobs: dict[str, Job]) -> None:
        self.encoder, self.jobs = encoder, jobs

    def clips(self, manifest: pd.DataFrame) -> list[Clip]:
        """The clips that have features: those with a good verdict, in the order of the manifest."""
        return [self.clip(verdict) for verdict in manifest[manifest["status"].isin(GOOD)].to_dict("records")]

    def clip(self, verdict: dict[str, Any]) -> Clip:
        """One line of the manifest as a clip with its keys."""
        job, settings = self.jobs[verdict["clip"]], self.encoder.settings
        how = (settings.dtype, settings.precision)
        keys = {
            modality: fingerprint(EXTRACT_VERSION, job.key, encoder.spec(), how, self.encoder.passes[modality].size)
            for modality, encoder in self.encoder.encoders.items()
        }
        inside = [second * job.segment_seconds < verdict["seconds"] for second in range(job.segments)]
        facts = {name: verdict[name] for name in ("clip", "status")}
        facts |= {"valid": inside, "visual_valid": list(verdict["visual_valid"]), "audio_valid": list(verdict["audio_valid"])}
        facts |= {f"{modality}_key": key for modality, key in keys.items()}
        return Clip(facts, job, keys)

    def missing(self, clips: list[Clip]) -> list[Clip]:
        """The clips of which the cache lacks a modality; clips with the same bytes share the work, so only one of them."""
        cache = self.encoder.cache
        lacking = {tuple(clip.keys.values()): clip for clip in clips if not all(cache.has(KIND, key) for key in clip.keys.values())}
        return list(lacking.values())

    def spec(self, job: Job | None) -> dict[str, Any]:
        """Everything that makes the numbers of a store of clips decoded like ``job``, as plain JSON; None: of an empty store."""
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
    """Of one segment as stored: ``output_shape``, or (frames, *output_shape) where the encoder keeps frames apart."""
    if job is None or not (isinstance(encoder, VisualEncoder) and encoder.frames == "keep"):
        return encoder.output_shape
    return (job.settings.frames_per_segment(job.segment_seconds), *encoder.output_shape)
