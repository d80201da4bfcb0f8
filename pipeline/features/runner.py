"""Extraction of one feature set: decoded clips -> encoders -> per-clip cache -> feature store.

Loading and preparing the next clips overlaps with encoding, in passes that mix clips; what is stored of a clip depends on that clip
alone, so an interrupted and resumed run gives the same bytes as an uninterrupted one (see :mod:`pipeline.features.passes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.cache import Cache, fingerprint
from pipeline.devices import choose_device
from pipeline.encoders import AudioEncoder, Encoder, VisualEncoder, create
from pipeline.errors import PipelineError, naming_clips
from pipeline.features.lanes import Lanes, Throughput, ahead
from pipeline.features.passes import Packer, Pass, PassEncoder
from pipeline.features.settings import FeatureSet
from pipeline.features.store import Entry, write_store
from pipeline.machine import UNKNOWN, joined, this_machine
from pipeline.media.clip import GOOD
from pipeline.media.decoding import Job, check_manifest, load_decoded

EXTRACT_VERSION = 3  # raised by hand whenever a code change here moves the numbers
KIND = "features"


@dataclass(frozen=True)
class Clip:
    """A clip with a good verdict, and the cache keys of its features by modality."""

    facts: dict[str, Any]
    job: Job
    keys: dict[str, str]


@dataclass(eq=False)
class Part:
    """The features of one clip in one modality while they are being made: ``rows`` of them, of which ``outputs`` are there."""

    clip: Clip
    modality: str
    rows: int
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return sum(map(len, self.outputs)) == self.rows


class Extraction:
    """One feature set over the clips of a manifest.

    Args:
        settings: the entry of ``features``.
        jobs: how each clip was decoded, by id.
        cache: the per-clip cache.
        workers: threads that load (and, without a GPU, encode); by default as many as torch would use (cores, or $OMP_NUM_THREADS).
    """

    def __init__(self, settings: FeatureSet, jobs: dict[str, Job], cache: Cache, workers: int | None = None) -> None:
        self.settings = settings
        self.jobs = jobs
        self.cache = cache
        self.workers = workers or torch.get_num_threads()
        device = choose_device(settings.device)
        choices = {"visual": settings.visual, "audio": settings.audio}
        self.encoders: dict[str, Encoder] = {name: create(choice.encoder, **choice.options) for name, choice in choices.items()}
        self.passes = {
            modality: PassEncoder(encoder, device, settings.precision, settings.batch_size) for modality, encoder in self.encoders.items()
        }
        self.device = device
        self.machines: list[dict[str, Any]] = []  # those that made what :meth:`entry` has given so far

    def run(self, manifest: pd.DataFrame, directory: Path) -> str:
        """Encode what the cache does not hold, write the store; returns a one-line summary.

        Raises:
            PipelineError: the manifest is not of these jobs, so that its keys are not of the frames that would be encoded.
        """
        check_manifest(manifest, self.jobs)
        clips = self.clips(manifest)
        todo = {}  # by keys: clips with the same bytes share the work
        for clip in clips:
            if not all(self.cache.has(KIND, key) for key in clip.keys.values()):
                todo[tuple(clip.keys.values())] = clip
        if todo:
            print(f"extract: {self.encode(list(todo.values()))}", flush=True)
        write_store(directory, map(self.entry, clips), len(clips), self.spec(clips[0].job if clips else None))
        return f"{len(clips)} clips stored, {len(todo)} encoded, {len(manifest) - len(clips)} left out by their status"

    def clips(self, manifest: pd.DataFrame) -> list[Clip]:
        """The clips that have features: those with a good verdict, in the order of the manifest."""
        return [self._clip(row) for row in manifest[manifest["status"].isin(GOOD)].to_dict("records")]

    def encode(self, clips: list[Clip], bar: bool = True) -> Throughput:
        """Put into the cache whatever features of ``clips`` it does not hold; with a progress ``bar`` on a terminal."""
        unfinished: dict[int, int] = {}  # parts still to come, by the identity of the clip
        hidden = None if bar else True
        with Lanes(self.device, self.workers) as lanes, tqdm(total=len(clips), desc="extract", unit="clip", disable=hidden) as progress:
            for part in self._parts(clips, lanes, unfinished):
                self._store(part)
                unfinished[id(part.clip)] -= 1
                progress.update(unfinished[id(part.clip)] == 0)
            return lanes.throughput(len(clips))

    def _parts(self, clips: list[Clip], lanes: Lanes, unfinished: dict[int, int]) -> Iterator[Part]:
        """Encoded parts, as they get whole. Few clips are loaded and few passes wait ahead of the encoder: memory stays bounded."""
        packers: dict[str, Packer[Part]] = {modality: Packer(encoder.size) for modality, encoder in self.passes.items()}
        waiting: deque[tuple[Pass[Part], Future[Tensor]]] = deque()

        def submit(modality: str, passes: Iterable[Pass[Part]]) -> Iterator[Part]:
            for each in passes:
                waiting.append((each, lanes.encode(self.passes[modality], each.rows)))
                while len(waiting) > 2 * lanes.encoders:
                    yield from _distribute(*waiting.popleft())

        for clip, prepared in ahead(lambda clip: lanes.load(self.prepare, clip), clips, lanes.workers + 1):
            unfinished[id(clip)] = len(prepared)
            for modality, rows in prepared.items():
                yield from submit(modality, packers[modality].add(Part(clip, modality, len(rows)), rows))
        for modality, packer in packers.items():
            yield from submit(modality, packer.rest())
        while waiting:
            yield from _distribute(*waiting.popleft())

    def _clip(self, verdict: dict[str, Any]) -> Clip:
        job = self.jobs[verdict["clip"]]
        how = (self.settings.dtype, self.settings.precision)
        keys = {
            modality: fingerprint(EXTRACT_VERSION, job.key, encoder.spec(), how, self.passes[modality].size)
            for modality, encoder in self.encoders.items()
        }
        inside = [second * job.segment_seconds < verdict["seconds"] for second in range(job.segments)]
        facts = {name: verdict[name] for name in ("clip", "status")}
        facts |= {"valid": inside, "visual_valid": list(verdict["visual_valid"]), "audio_valid": list(verdict["audio_valid"])}
        facts |= {f"{modality}_key": key for modality, key in keys.items()}
        return Clip(facts, job, keys)

    def prepare(self, clip: Clip) -> dict[str, Tensor]:
        """Decoded arrays -> the encoders' input, (N, *input) for the modalities the cache does not hold. Runs in a loading thread."""
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

    def _store(self, part: Part) -> None:
        """(rows, *output_shape) -> (T, *shape of a segment) in the stored dtype, into the cache."""
        job = part.clip.job
        numbers = segment_features(self.encoders[part.modality], torch.cat(part.outputs), job.segments)
        stored = numbers.astype(self.settings.dtype)
        if not np.isfinite(stored).all():
            fits = np.isfinite(numbers).all() and self.settings.dtype == "float16"
            advice = "set features.*.dtype: float32" if fits else "no dtype can hold them: check the encoder's weights"
            raise PipelineError(
                f"clip {job.clip!r}: its {part.modality} features are not finite in {self.settings.dtype}"
                f" (largest magnitude {np.abs(numbers).max():.4g}); {advice}"
            )
        self.cache.put(KIND, part.clip.keys[part.modality], {"features": stored}, {"machine": this_machine(self.device)})

    def entry(self, clip: Clip) -> Entry:
        """The features of a clip from the cache, made now where it does not hold them."""
        features = {}
        for modality, key in clip.keys.items():
            entry = self.cache.get(KIND, key)
            if entry is None:  # damaged on disk since it was written
                self.encode([clip])
                entry = self.cache.get(KIND, key)
            if entry is None:
                raise PipelineError(
                    f"clip {clip.job.clip!r}: the cache {self.cache.root} does not keep its {modality} features; is the disk full?"
                )
            features[modality] = entry[0]["features"]
            self.machines = joined(self.machines, entry[1].get("machine", UNKNOWN))
        return Entry(clip.facts, features)

    def spec(self, job: Job | None) -> dict[str, Any]:
        """Everything that makes the numbers of a store of clips decoded like ``job``, as plain JSON; None: of an empty store."""
        return {
            "segments": job.segments if job else 0,
            "segment_seconds": job.segment_seconds if job else 0.0,
            "dtype": self.settings.dtype,
            "precision": self.settings.precision,
            "media": job.sampling if job else {},
            "shapes": {modality: list(self._segment_shape(encoder, job)) for modality, encoder in self.encoders.items()},
            "encoders": {modality: encoder.spec() for modality, encoder in self.encoders.items()},
        }

    @staticmethod
    def _segment_shape(encoder: Encoder, job: Job | None) -> tuple[int, ...]:
        """Of one segment as stored: ``output_shape``, or (frames, *output_shape) where the encoder keeps frames apart."""
        if job is None or not (isinstance(encoder, VisualEncoder) and encoder.frames == "keep"):
            return encoder.output_shape
        return (job.settings.frames_per_segment(job.segment_seconds), *encoder.output_shape)


def segment_features(encoder: Encoder, output: Tensor, segments: int) -> np.ndarray:
    """An encoder's rows of one clip, (rows, *output_shape) -> (T, *shape of a segment).

    Audio has one row a segment; frames are averaged, as the published features are, unless the encoder keeps them apart.
    """
    rows = output.unflatten(0, (segments, -1))
    kept = isinstance(encoder, VisualEncoder) and encoder.frames == "keep"
    return (rows if kept else rows.mean(1)).numpy()


def _distribute(done: Pass[Part], output: Future[Tensor]) -> Iterator[Part]:
    """Give every part its rows of a pass; the parts that are whole now."""
    with naming_clips([part.clip.job.clip for part, _ in done.shares], f"{done.shares[0][0].modality} encoder"):
        pieces = output.result().split([count for _, count in done.shares])
    for (part, _), piece in zip(done.shares, pieces, strict=True):
        part.outputs.append(piece)
        if part.whole:
            yield part
