"""Extraction of one feature set: decoded clips -> encoders -> per-clip cache -> feature store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline.cache import Cache
from pipeline.errors import PipelineError
from pipeline.features.clip_encoder import KIND, Clip, ClipEncoder
from pipeline.features.engines.base import Engine
from pipeline.features.engines.local import ThisProcess
from pipeline.features.lanes import load_ahead
from pipeline.features.plan import ExtractionPlan
from pipeline.features.settings import FeatureSet
from pipeline.features.store import Entry, write_store
from pipeline.machine import UNKNOWN, joined
from pipeline.media.decoding import NAMED, check_manifest
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.shards import Shard

Announce = Callable[[list[Clip], list[Clip]], None]
CachedFeatures = dict[str, tuple[dict[str, Any], dict[str, Any]] | None]  # by modality: arrays and facts of the entry, or None


def nothing(clips: list[Clip], missing: list[Clip]) -> None:
    """Announce nothing."""


class Extraction:
    """One feature set over the clips of a manifest.

    Args:
        settings: the entry of ``features``.
        jobs: how each clip was decoded, by id.
        cache: the per-clip cache.
        engine: makes the engine; by default that of this process.
        workers: threads that load (and, without a GPU, encode); by default as many as torch would use (cores, or $OMP_NUM_THREADS).
    """

    def __init__(
        self,
        settings: FeatureSet,
        jobs: dict[str, Job],
        cache: Cache,
        workers: int | None = None,
        engine: Callable[[ClipEncoder], Engine] | None = None,
    ) -> None:
        self.jobs, self.cache = jobs, cache
        self.encoder = ClipEncoder(settings, cache)
        self.plan = ExtractionPlan(self.encoder, jobs)
        self.engine: Engine = ThisProcess(self.encoder, workers or torch.get_num_threads())
        if engine:
            self.engine = engine(self.encoder)
        self.machines: list[dict[str, Any]] = []  # the machines that made the entries returned so far

    def run(self, manifest: pd.DataFrame, directory: Path, announce: Announce = nothing) -> str:
        """Encode the clips missing from the cache and write the store; return a one-line summary.

        Args:
            announce: called before the work with (clips to be stored, those to be encoded).

        Raises:
            PipelineError: the manifest belongs to other jobs, so its keys do not describe the frames to be encoded.
        """
        check_manifest(manifest, self.jobs)
        clips = self.plan.clips(manifest)
        missing = self.plan.missing(clips)
        announce(clips, missing)
        if missing:
            self.cache.check()
            print(f"extract: {self.engine.encode(missing)}", flush=True)
        left_out = f"{len(manifest) - len(clips)} left out by their status"
        if lost := {clip.job.clip: self.engine.lost[clip.job.key] for clip in clips if clip.job.key in self.engine.lost}:
            check_lost_share(lost, len(manifest), clips[0].job.settings.max_bad_fraction)
            left_out += f", {len(lost)} because they could not be encoded: {listed(lost)}"
            clips = [clip for clip in clips if clip.job.clip not in lost]
        self.write(clips, directory)
        return f"{len(clips)} clips stored, {len(missing) - len(self.engine.lost)} encoded, {left_out}"

    def fill(self, manifest: pd.DataFrame, shard: Shard, announce: Announce = nothing) -> str:
        """Encode a share of the clips into the cache, and publish nothing; return a one-line summary.

        Args:
            announce: as for :meth:`run`.

        Raises:
            PipelineError: as :meth:`run`.
        """
        check_manifest(manifest, self.jobs)
        clips = self.plan.clips(manifest)
        share = shard.share(clip.job.key for clip in clips)
        mine = [clip for clip in clips if clip.job.key in share]
        missing = self.plan.missing(mine)
        announce(mine, missing)
        if missing:
            self.cache.check()
            print(f"extract: {self.engine.encode(missing)}", flush=True)
        return f"{len(mine)} of {len(clips)} clips, {len(missing)} encoded"

    def decode(self, missing: list[str], media: MediaSettings) -> pd.DataFrame:
        """Decode the clips of all jobs and encode each as soon as it is decoded; return the manifest.

        All that is made is in the cache afterwards, so :meth:`run` has only the store to write.

        Args:
            missing: ids of clips without a file.
            media: the settings of the jobs.
        """
        return self.engine.decode(self.plan, missing, media)

    def write(self, clips: list[Clip], directory: Path) -> None:
        """Write the store of clips whose features are in the cache."""
        entries = (self._entry(clip, found) for clip, found in load_ahead(self._cached, clips))
        write_store(directory, entries, len(clips), self.plan.spec(clips[0].job if clips else None))

    def entry(self, clip: Clip) -> Entry:
        """Read a clip's features from the cache, encoding the clip again if they are missing.

        Raises:
            PipelineError: the cache lost what was just put into it.
        """
        return self._entry(clip, self._cached(clip))

    def _cached(self, clip: Clip) -> CachedFeatures:
        return {modality: self.cache.get(KIND, key) for modality, key in clip.keys.items()}

    def _entry(self, clip: Clip, found: CachedFeatures) -> Entry:
        features = {}
        for modality, key in clip.keys.items():
            entry = found[modality] or self.cache.get(KIND, key)  # the other modality may have led to both being made again
            if entry is None:  # damaged on disk since it was written
                self.engine.encode([clip])
                entry = self.cache.get(KIND, key)
            if entry is None:
                raise PipelineError(
                    f"clip {clip.job.clip!r}: the cache {self.cache.root} lost its {modality} features at once; is the disk full?"
                )
            features[modality] = entry[0]["features"]
            self.machines = joined(self.machines, entry[1].get("machine", UNKNOWN))
        return Entry(clip.facts, features)


def listed(lost: Mapping[str, str]) -> str:
    """The first of the clips that could not be encoded, with the reasons."""
    first = [f"{clip} ({lost[clip]})" for clip in sorted(lost)[:NAMED]]
    return ", ".join([*first, *([f"and {len(lost) - NAMED} more"] if len(lost) > NAMED else [])])


def check_lost_share(lost: Mapping[str, str], clips: int, limit: float) -> None:
    """Fail if too many clips could not be encoded.

    Args:
        lost: the reasons by clip id.
        clips: of the manifest.
        limit: ``media.max_bad_fraction``.

    Raises:
        PipelineError: more than the share ``limit`` could not.
    """
    if len(lost) > limit * clips:
        raise PipelineError(
            f"{len(lost)} of {clips} clips could not be encoded, more than media.max_bad_fraction = {limit:g} allows: {listed(lost)};"
            " finished clips are kept"
        )
