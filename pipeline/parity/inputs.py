"""Encode a few clips again as the extraction of our own store would, each time with one change."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.cache import Cache
from pipeline.devices import choose_device
from pipeline.encoders import AudioEncoder, Encoder, VisualEncoder, create
from pipeline.errors import PipelineError
from pipeline.features.clip_encoder import reduce_to_segments
from pipeline.features.passes import PassEncoder
from pipeline.features.settings import FeatureSet
from pipeline.media.decoding import decode_clips, load_decoded
from pipeline.media.job import Job
from pipeline.parity.changes import Change, changes


class Reencoder:
    """An encoder of clips of one feature set under a :class:`Change`.

    Args:
        settings: the entry of ``features`` that made our store.
        jobs: how each clip was decoded, by id.
        cache: the per-clip cache.
        clips: number of clips to encode each time.
    """

    def __init__(self, settings: FeatureSet, jobs: dict[str, Job], cache: Cache, clips: int) -> None:
        self.settings = settings
        self.jobs = jobs
        self.cache = cache
        self.count = clips
        self._passes: dict[str, PassEncoder] = {}

    def choose(self, clips: Sequence[str]) -> list[str]:
        """Choose the clips to encode, evenly spread over those that have a file."""
        known = [clip for clip in clips if clip in self.jobs]
        count = min(self.count, len(known))
        return [known[round(number * (len(known) - 1) / max(1, count - 1))] for number in range(count)]

    def changes(self, modality: str) -> list[Change]:
        """List the changes that are possible for the encoder of this modality."""
        job = next(iter(self.jobs.values()))
        return changes(self._pass(modality, {}).encoder, job.settings, job.segment_seconds)

    def encode(self, modality: str, clips: Sequence[str], change: Change) -> np.ndarray:
        """Encode clips under a change: (N, T, *shape of a segment) float32.

        Raises:
            PipelineError: the change is not possible here (a file is missing, a clip lacks such frames), or gives another shape.
        """
        try:
            encoded = self._pass(modality, change.options)
            jobs = [replace(job := self.jobs[clip], settings=job.settings.model_copy(update=change.media)) for clip in clips]
            with contextlib.redirect_stdout(io.StringIO()):
                decode_clips(jobs, [], jobs[0].settings)
                return np.stack([self._encode(encoded, job, change) for job in jobs])
        except ValidationError as error:
            raise PipelineError(f"{change.name}: {error.errors()[0]['msg']}") from error

    def _encode(self, encoded: PassEncoder, job: Job, change: Change) -> np.ndarray:
        encoder = encoded.encoder
        frames, waveform, rate = load_decoded(self.cache, job.clip, job.key, job)
        if isinstance(encoder, VisualEncoder):
            places = np.clip(np.arange(len(frames)) + change.steps, 0, len(frames) - 1)
            pictures = torch.from_numpy(np.ascontiguousarray(frames[places][..., ::-1] if change.reverse else frames[places]))
            rows = _prepare(encoder, pictures, len(frames) // job.segments, change)
        elif isinstance(encoder, AudioEncoder):
            sound = torch.from_numpy(_moved(waveform, round(change.seconds * rate)) * np.float32(change.gain))
            rows = encoder.prepare(sound, rate, job.segments, job.segment_seconds)
        output = torch.cat([encoded(part) for part in rows.split(encoded.size)])
        return reduce_to_segments(encoder, output, job.segments).numpy().astype(np.float32)

    def _pass(self, modality: str, options: dict[str, Any]) -> PassEncoder:
        key = f"{modality} {sorted(options.items())}"
        if key not in self._passes:
            choice = self.settings.visual if modality == "visual" else self.settings.audio
            encoder: Encoder = create(choice.encoder, **{**choice.options, **options})
            device = choose_device(self.settings.device)
            self._passes[key] = PassEncoder(encoder, device, self.settings.precision, self.settings.batch_size)
        return self._passes[key]


def _prepare(encoder: VisualEncoder, frames: Tensor, per_segment: int, change: Change) -> Tensor:
    """Call ``prepare`` with the change's image transform."""
    if not change.transform:
        return encoder.prepare(frames, per_segment)
    own: Any = encoder.image_transform  # type: ignore[attr-defined]
    try:
        encoder.image_transform = replace(own, **change.transform)  # type: ignore[assignment]
        return encoder.prepare(frames, per_segment)
    finally:
        encoder.image_transform = own


def _moved(waveform: np.ndarray, samples: int) -> np.ndarray:
    """(L,) -> (L,): the waveform ``samples`` later, silence where there is nothing."""
    moved = np.zeros_like(waveform)
    if samples >= 0:
        moved[: len(waveform) - samples] = waveform[samples:]
    else:
        moved[-samples:] = waveform[:samples]
    return moved
