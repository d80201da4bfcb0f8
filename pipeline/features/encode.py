"""The work on one clip in an extraction: decoded arrays -> encoder input, encoder output -> features in the cache.

:mod:`pipeline.features.plan` decides which clips are encoded, an engine of :mod:`pipeline.features.engine` where and in which passes.

Shape letters: N rows of an encoder (frames or segments), T segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.cache import Cache
from pipeline.devices import choose_device
from pipeline.encoders import AudioEncoder, Encoder, VisualEncoder, create
from pipeline.errors import PipelineError, naming_clips
from pipeline.features.passes import PassEncoder
from pipeline.features.settings import FeatureSet
from pipeline.machine import this_machine
from pipeline.media.decoding import load_decoded
from pipeline.media.job import Job

EXTRACT_VERSION = 3  # raised by hand whenever a code change of an extraction moves the numbers
KIND = "features"


@dataclass(frozen=True)
class Clip:
    """A clip with a good verdict, and the cache keys of its features by modality."""

    facts: dict[str, Any]
    job: Job
    keys: dict[str, str]


@dataclass(eq=False)
class ClipFeatures:
    """The features of one clip in one modality, in the making: ``rows`` expected, ``outputs`` computed so far."""

    clip: Clip
    modality: str
    rows: int
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return sum(map(len, self.outputs)) == self.rows


class ClipEncoder:
    """The two encoders of a feature set on their device, and the cache that stores their output.

    Args:
        settings: the entry of ``features``.
        cache: the per-clip cache.
    """

    def __init__(self, settings: FeatureSet, cache: Cache) -> None:
        self.settings, self.cache = settings, cache
        self.device = choose_device(settings.device)
        choices = {"visual": settings.visual, "audio": settings.audio}
        self.encoders: dict[str, Encoder] = {name: create(choice.encoder, **choice.options) for name, choice in choices.items()}
        self.passes = {
            modality: PassEncoder(encoder, self.device, settings.precision, settings.batch_size)
            for modality, encoder in self.encoders.items()
        }

    def prepare(self, clip: Clip) -> dict[str, Tensor]:
        """Prepare the encoders' input, (N, *input), for each modality missing from the cache. Runs in a loading thread."""
        job = clip.job
        frames, waveform, rate = load_decoded(self.cache, job.clip, job.key, job)
        prepared: dict[str, Tensor] = {}
        for modality, encoder in self.encoders.items():
            if self.cache.has(KIND, clip.keys[modality]):
                continue
            with naming_clips([job.clip], f"encoder {encoder.name}"):
                if isinstance(encoder, VisualEncoder):
                    prepared[modality] = encoder.prepare(torch.from_numpy(frames), len(frames) // job.segments)
                elif isinstance(encoder, AudioEncoder):
                    prepared[modality] = encoder.prepare(torch.from_numpy(waveform), rate, job.segments, job.segment_seconds)
        return prepared

    def store(self, made: ClipFeatures) -> None:
        """Reduce (N, *output_shape) to (T, *shape of a segment) in the stored dtype and put it into the cache.

        Raises:
            PipelineError: a feature that is not finite in the stored dtype.
        """
        job = made.clip.job
        numbers = segment_features(self.encoders[made.modality], torch.cat(made.outputs), job.segments)
        stored = numbers.astype(self.settings.dtype)
        if not np.isfinite(stored).all():
            fits = np.isfinite(numbers).all() and self.settings.dtype == "float16"
            advice = "set features.*.dtype: float32" if fits else "no dtype can hold them: check the encoder's weights"
            raise PipelineError(
                f"clip {job.clip!r}: its {made.modality} features are not finite in {self.settings.dtype}"
                f" (largest magnitude {np.abs(numbers).max():.4g}); {advice}"
            )
        self.cache.put(KIND, made.clip.keys[made.modality], {"features": stored}, {"machine": this_machine(self.device)})


def segment_features(encoder: Encoder, output: Tensor, segments: int) -> np.ndarray:
    """Turn an encoder's rows of one clip, (N, *output_shape), into (T, *shape of a segment).

    Audio has one row a segment. Frames are averaged, as in the published features, unless the encoder keeps them apart.
    """
    rows = output.unflatten(0, (segments, -1))
    kept = isinstance(encoder, VisualEncoder) and encoder.frames == "keep"
    return (rows if kept else rows.mean(1)).numpy()
