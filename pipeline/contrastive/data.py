"""The clips and frames that an encoder is fine-tuned on, and the frozen audio features.

Clips of the training split are trained on, those of the validation split serve retrieval metrics and early stopping, and the test split is
never opened. A file's content counts, not its name: a training clip with the same bytes as a file of val or test is left out.

Shape letters: T segments, F frames, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.cache import Cache, fingerprint
from pipeline.encoders import AudioEncoder, VisualEncoder
from pipeline.errors import PipelineError, naming_clips
from pipeline.media.clip import GOOD
from pipeline.media.decoding import check_manifest, load_decoded, load_sound
from pipeline.media.job import KIND as DECODED
from pipeline.media.job import Job

AUDIO_VERSION = 1  # raised by hand whenever a code change here moves the numbers
KIND = "contrastive_audio"
DRAWN = "drawn_frames"  # kind of the entries with frames that are drawn once


@dataclass(frozen=True)
class Item:
    """One clip: how it was decoded, and its segments with both picture and sound."""

    job: Job
    segments: tuple[int, ...]

    @property
    def clip(self) -> str:
        return self.job.clip


@dataclass(frozen=True)
class Selection:
    """Clips to train on, clips to validate on, and ids of the clips left out, by reason."""

    train: list[Item]
    validation: list[Item]
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def summary(self) -> str:
        parts = [f"{len(self.train)} training clips", f"{len(self.validation)} validation clips"]
        return ", ".join(parts + [f"{len(clips)} left out: {reason}" for reason, clips in self.left_out.items() if clips])


def select(index: pd.DataFrame, manifest: pd.DataFrame, jobs: dict[str, Job]) -> Selection:
    """Choose the clips, each content once, however many annotation rows or ids name it.

    Args:
        index: annotation rows, with ``clip``, ``split`` and ``sha256``.
        manifest: the verdicts of ``decode``, with ``status``, ``seconds``, ``visual_valid`` and ``audio_valid``.
        jobs: how each clip was decoded, by id.

    Raises:
        PipelineError: the manifest belongs to other jobs; the message names the stage to run.
    """
    check_manifest(manifest, jobs)
    verdicts = {row["clip"]: row for row in manifest.to_dict("records")}
    content = {name: set(index.loc[index["split"] == name, "sha256"].dropna()) for name in ("val", "test")}
    left_out: dict[str, list[str]] = {"also in val or test": [], "not decoded, or without a segment with picture and sound": []}
    leaked, unusable = left_out.values()
    chosen: dict[str, dict[str, Item]] = {"train": {}, "val": {}}
    for split, held_out in (("train", content["val"] | content["test"]), ("val", content["test"])):
        for clip in dict.fromkeys(index.loc[index["split"] == split, "clip"]):
            job = jobs.get(clip)
            segments = usable_segments(job, verdicts[clip]) if job is not None and clip in verdicts else ()
            if job is not None and job.sha256 in held_out:
                leaked.append(clip)
            elif job is None or not segments:
                unusable.append(clip)
            else:  # validation ranks clips against each other, so it takes one window of each file
                chosen[split].setdefault(job.key if split == "train" else job.sha256, Item(job, segments))
    return Selection(list(chosen["train"].values()), list(chosen["val"].values()), left_out)


def usable_segments(job: Job, verdict: dict[str, Any]) -> tuple[int, ...]:
    """Segments that begin inside the clip and have picture and sound; empty if the clip's verdict is bad."""
    if verdict["status"] not in GOOD:
        return ()
    inside = np.arange(job.segments) * job.segment_seconds < verdict["seconds"]
    both = np.array(verdict["visual_valid"], bool) & np.array(verdict["audio_valid"], bool)
    return tuple(int(segment) for segment in np.flatnonzero(inside & both))


@dataclass(frozen=True)
class Draw:
    """Frames drawn from one clip, and their segments.

    frames: positions among the clip's T * F decoded frames.
    once: drawn the same in every epoch, so these frames are worth keeping where a clip's others are not.
    """

    item: Item
    segments: tuple[int, ...]
    frames: tuple[int, ...]
    once: bool = False


def draw_random(item: Item, seed: int, epoch: int, segments: int | None, frames: int, once: bool = False) -> Draw:
    """Draw random segments of a clip (None: all) and ``frames`` random frames of each, without repetition.

    The draw depends on the clip's content, the seed and the epoch alone, not on other clips or earlier draws, so a resumed run draws the
    same as an uninterrupted one.
    """
    random = np.random.default_rng([seed, epoch, int(item.job.key[:12], 16)])
    chosen = item.segments
    if segments is not None and segments < len(chosen):
        chosen = tuple(sorted(int(segment) for segment in random.choice(chosen, segments, replace=False)))
    per_segment = item.job.settings.frames_per_segment(item.job.segment_seconds)
    count = min(frames, per_segment)
    positions = [segment * per_segment + np.sort(random.choice(per_segment, count, replace=False)) for segment in chosen]
    return Draw(item, chosen, tuple(int(position) for position in np.concatenate(positions)), once)


def draw_middle(item: Item) -> Draw:
    """Take the middle frame of every usable segment, as validation does: the same every time."""
    per_segment = item.job.settings.frames_per_segment(item.job.segment_seconds)
    return Draw(item, item.segments, tuple(segment * per_segment + per_segment // 2 for segment in item.segments), once=True)


def load_frames(cache: Cache, encoder: VisualEncoder, draw: Draw) -> Tensor:
    """Load the drawn frames, (F, 3, h, w) float32, prepared by the encoder."""
    frames = _drawn(cache, draw)
    with naming_clips([draw.item.clip], f"encoder {encoder.name}"):
        return encoder.prepare(torch.from_numpy(frames))


def load_sounds(cache: Cache, encoder: AudioEncoder, draw: Draw) -> Tensor:
    """Load the sound of the drawn segments, (S, *input), prepared by the encoder."""
    job = draw.item.job
    waveform, rate = load_sound(cache, job.clip, job.key, job)
    with naming_clips([job.clip], f"encoder {encoder.name}"):
        return encoder.prepare(torch.from_numpy(waveform), rate, job.segments, job.segment_seconds)[list(draw.segments)]


def _drawn(cache: Cache, draw: Draw) -> np.ndarray:
    """Read the drawn frames, (F, H, W, 3) uint8.

    Where a clip's frames are not stored, those that are drawn once are kept by themselves.
    """
    job = draw.item.job
    alone = draw.once and job.settings.keep != "frames" and not cache.has(DECODED, job.key)
    key = drawn_key(draw)
    kept = cache.get(DRAWN, key) if alone else None
    if kept is not None:
        return kept[0]["frames"]
    frames = load_decoded(cache, job.clip, job.key, job)[0][list(draw.frames)]
    if alone:
        cache.put(DRAWN, key, {"frames": frames})
    return frames


def drawn_key(draw: Draw) -> str:
    """The cache key of drawn frames that are kept by themselves."""
    return fingerprint(draw.item.job.key, draw.frames)


def audio_features(
    cache: Cache, encoder: AudioEncoder, items: Iterable[Item], device: torch.device, tf32: bool = False
) -> dict[str, Tensor]:
    """Read each clip's audio features from the per-clip cache, or compute and cache them.

    Args:
        tf32: whether a GPU rounds the factors of its products; on a CPU it changes nothing.

    Returns:
        (T, D) float32 by clip id.

    Raises:
        PipelineError: features that are not finite; the message names the clip.
    """
    encoder.to(device)
    spec = encoder.spec()
    features: dict[str, Tensor] = {}
    for item in items:
        key = audio_key(item.job.key, spec, device.type, tf32)
        entry = cache.get(KIND, key)
        if entry is None:
            waveform, rate = load_sound(cache, item.clip, item.job.key, item.job)
            with naming_clips([item.clip], f"encoder {encoder.name}"), torch.inference_mode():
                prepared = encoder.prepare(torch.from_numpy(waveform), rate, item.job.segments, item.job.segment_seconds)
                encoded = encoder.encode(prepared.to(device)).float().cpu().numpy()
            cache.put(KIND, key, {"features": encoded})
        else:
            encoded = entry[0]["features"]
        if not np.isfinite(encoded).all():
            raise PipelineError(f"clip {item.clip!r}: its {encoder.name} features are not finite; check the encoder's weights and the clip")
        features[item.clip] = torch.from_numpy(encoded)
    return features


def audio_key(decoded: str, spec: Mapping[str, Any], device: str, tf32: bool) -> str:
    """The cache key of a clip's audio features.

    Args:
        decoded: key of the decoded clip.
        spec: of the encoder.
        device: kind of the device that encodes, "cpu" or "cuda".
    """
    return fingerprint(AUDIO_VERSION, decoded, spec, *([] if device == "cpu" else [device, tf32]))


def pooled_audio(features: dict[str, Tensor], draws: Sequence[Draw]) -> Tensor:
    """Average each clip's audio features over the segments that its frames were drawn from: (N, D)."""
    return torch.stack([features[draw.item.clip][list(draw.segments)].mean(dim=0) for draw in draws])
