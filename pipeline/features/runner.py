"""Extraction of one feature set: decoded clips -> encoders -> per-clip cache -> feature store.

Loading and preparing the next clips overlaps with encoding the current one. The frames of one clip are encoded in chunks whose sizes depend
on that clip alone, so an interrupted and resumed run gives the same bytes as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.cache import Cache, fingerprint
from pipeline.devices import choose_device
from pipeline.encoders import Encoder, create
from pipeline.errors import PipelineError
from pipeline.features.prefetch import ahead
from pipeline.features.settings import FeatureSet
from pipeline.features.store import Entry, write_store
from pipeline.media.clip import GOOD
from pipeline.media.decoding import Job, load_decoded

EXTRACT_VERSION = 1  # raised by hand whenever a code change here moves the numbers
KIND = "features"


@dataclass(frozen=True)
class Clip:
    """A clip with a good verdict, and the cache keys of its features by modality."""

    facts: dict[str, Any]
    job: Job
    keys: dict[str, str]


class Extraction:
    """One feature set over the clips of a manifest.

    Args:
        settings: the entry of ``features``.
        jobs: how each clip was decoded, by id.
        cache: the per-clip cache.
    """

    def __init__(self, settings: FeatureSet, jobs: dict[str, Job], cache: Cache) -> None:
        self.settings = settings
        self.jobs = jobs
        self.cache = cache
        self.device = choose_device(settings.device)
        choices = {"visual": settings.visual, "audio": settings.audio}
        self.encoders: dict[str, Encoder] = {name: create(choice.encoder, **choice.options) for name, choice in choices.items()}
        for encoder in self.encoders.values():
            encoder.to(self.device)

    def run(self, manifest: pd.DataFrame, directory: Path) -> str:
        """Encode what the cache does not hold, write the store; returns a one-line summary."""
        good = manifest[manifest["status"].isin(GOOD)]
        clips = [self._clip(row) for row in good.to_dict("records")]
        todo = {}  # by keys: clips with the same bytes share the work
        for clip in clips:
            if not all(self.cache.has(KIND, key) for key in clip.keys.values()):
                todo[tuple(clip.keys.values())] = clip
        for clip, prepared in tqdm(
            ahead(self._prepare, todo.values()), total=len(todo), desc="extract", unit="clip", disable=None
        ):  # fmt: skip
            self._encode(clip, prepared)
        write_store(directory, map(self._entry, clips), len(clips), self._spec(clips))
        return f"{len(clips)} clips stored, {len(todo)} encoded, {len(manifest) - len(clips)} left out by their status"

    def _clip(self, verdict: dict[str, Any]) -> Clip:
        job = self.jobs[verdict["clip"]]
        keys = {
            modality: fingerprint(EXTRACT_VERSION, verdict["key"], encoder.spec(), self.settings.dtype, self.settings.batch_size)
            for modality, encoder in self.encoders.items()
        }
        inside = [second * job.segment_seconds < verdict["seconds"] for second in range(job.segments)]
        facts = {name: verdict[name] for name in ("clip", "status")}
        facts |= {"valid": inside, "visual_valid": list(verdict["visual_valid"]), "audio_valid": list(verdict["audio_valid"])}
        facts |= {f"{modality}_key": key for modality, key in keys.items()}
        return Clip(facts, job, keys)

    def _prepare(self, clip: Clip) -> dict[str, Tensor]:
        """Decoded arrays -> the encoders' input, for the modalities the cache does not hold. Runs in a loader thread."""
        frames, waveform, rate = load_decoded(self.cache, clip.job.clip, clip.job.key, clip.job)
        prepared: dict[str, Tensor] = {}
        if not self.cache.has(KIND, clip.keys["visual"]):
            prepared["visual"] = self.encoders["visual"].prepare(torch.from_numpy(frames))  # type: ignore[operator]
        if not self.cache.has(KIND, clip.keys["audio"]):
            audio = self.encoders["audio"]
            prepared["audio"] = audio.prepare(torch.from_numpy(waveform), rate, clip.job.segments, clip.job.segment_seconds)  # type: ignore[operator]
        return prepared

    def _encode(self, clip: Clip, prepared: dict[str, Tensor]) -> None:
        for modality, batch in prepared.items():
            encoder = self.encoders[modality]
            with torch.inference_mode():
                chunks = [encoder.encode(chunk.to(self.device)) for chunk in batch.split(self.settings.batch_size)]
                # Frames of a segment are averaged, as the published features are; audio has one example a segment.
                output = torch.cat(chunks).float().unflatten(0, (clip.job.segments, -1)).mean(1).cpu().numpy()
            stored = output.astype(self.settings.dtype)
            if not np.isfinite(stored).all():
                raise PipelineError(
                    f"clip {clip.job.clip!r}: its {modality} features are not finite in {self.settings.dtype}"
                    f" (largest magnitude {np.abs(output).max():.4g}); set features.*.dtype: float32 or check the encoder's weights"
                )
            self.cache.put(KIND, clip.keys[modality], {"features": stored})

    def _entry(self, clip: Clip) -> Entry:
        features = {}
        for modality, key in clip.keys.items():
            entry = self.cache.get(KIND, key)
            if entry is None:  # damaged on disk since it was written
                self._encode(clip, self._prepare(clip))
                entry = self.cache.get(KIND, key)
            if entry is None:
                raise PipelineError(
                    f"clip {clip.job.clip!r}: the cache {self.cache.root} does not keep its {modality} features; is the disk full?"
                )
            features[modality] = entry[0]["features"]
        return Entry(clip.facts, features)

    def _spec(self, clips: list[Clip]) -> dict[str, Any]:
        segments = clips[0].job.segments if clips else 0
        return {
            "segments": segments,
            "segment_seconds": clips[0].job.segment_seconds if clips else 0.0,
            "dtype": self.settings.dtype,
            "shapes": {modality: list(encoder.output_shape) for modality, encoder in self.encoders.items()},
            "encoders": {modality: encoder.spec() for modality, encoder in self.encoders.items()},
        }
