"""A small demo world, decoded and encoded once, and stores that stand for published features of the same clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import encoders
from pipeline.cache import Cache, file_sha256
from pipeline.features.extraction import Extraction
from pipeline.features.settings import FeatureSet
from pipeline.features.store import Entry, FeatureStore, write_store
from pipeline.media.decoding import decode_clips, load_decoded
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.parity import report
from pipeline.synth.settings import SynthSettings
from pipeline.synth.world import write_world

MEDIA = MediaSettings(frames_per_second=2, workers=1)
SEGMENTS = 3  # the first seconds of each clip
VISUAL = {"encoder": "efficientnet_lite0", "weights": "pretrained", "image_size": 48}
FEATURES = {"visual": VISUAL, "audio": {"encoder": "vggish", "weights": "none"}, "finetuned": "none", "dtype": "float16", "device": "cpu"}


def store_of(directory: Path, visual: np.ndarray, audio: np.ndarray, clips=None, valid=None) -> Path:
    """A store of (N, T, *shape) arrays, as an import writes it: float32, without encoders in its spec."""
    directory.mkdir(parents=True)
    clips = clips or [f"clip{number:03d}" for number in range(len(visual))]
    count = visual.shape[1]
    masks = valid if valid is not None else np.ones((len(clips), count), bool)
    keys = {"visual_key": "published", "audio_key": "published"}
    entries = [
        Entry(
            {"clip": clip, "status": "ok", "valid": list(mask), "visual_valid": [True] * count, "audio_valid": [True] * count, **keys},
            {"visual": of_visual, "audio": of_audio},
        )
        for clip, mask, of_visual, of_audio in zip(clips, masks, visual, audio, strict=True)
    ]
    shapes = {"visual": list(visual.shape[2:]), "audio": list(audio.shape[2:])}
    write_store(directory, entries, len(entries), {"segments": count, "dtype": "float32", "shapes": shapes})
    return directory


@dataclass
class World:
    root: Path
    cache: Cache
    jobs: dict[str, Job]
    ours: Path = field(init=False)

    def __post_init__(self):
        self.settings = FeatureSet.model_validate(FEATURES)
        manifest = decode_clips(list(self.jobs.values()), [], MEDIA)
        assert set(manifest["status"]) == {"ok"}
        self.ours = self.root / "features" / "ours"
        self.ours.mkdir(parents=True)
        Extraction(self.settings, self.jobs, self.cache, workers=1).run(manifest, self.ours)
        self.clips = sorted(self.jobs)
        store = FeatureStore(self.ours)
        self.arrays = {modality: store.read(modality, self.clips).astype(np.float32) for modality in ("visual", "audio")}

    def published(self, name, **arrays):
        """A store that differs from ours in the arrays given."""
        made = {**self.arrays, **arrays}
        return store_of(self.root / "published" / name, made["visual"], made["audio"], self.clips)

    def visual_features(self, change, **options):
        """(N, T, h, w, D) of frames (F, H, W, 3) that ``change`` was applied to, encoded without the pipeline's extraction."""
        encoder = encoders.create("efficientnet_lite0", **{key: value for key, value in VISUAL.items() if key != "encoder"} | options)
        features = []
        for clip in self.clips:
            frames, _, _ = load_decoded(self.cache, clip, self.jobs[clip].key, self.jobs[clip])
            with torch.inference_mode():
                maps = encoder.encode(encoder.prepare(torch.from_numpy(change(frames).copy())))
            features.append(maps.double().reshape(SEGMENTS, -1, *maps.shape[1:]).mean(1).numpy())
        return np.stack(features).astype(np.float32)

    def audio_features(self, change=lambda waveform, rate: waveform, clips=None, **options):
        """(N, T, 128) of VGGish with other settings, or of a changed waveform; of all clips or of some."""
        encoder = encoders.create("vggish", weights="none", **options)
        features = []
        for clip in clips or self.clips:
            _, waveform, rate = load_decoded(self.cache, clip, self.jobs[clip].key, self.jobs[clip])
            with torch.inference_mode():
                prepared = encoder.prepare(torch.from_numpy(change(waveform, rate).copy()), rate, SEGMENTS, 1.0)
                features.append(encoder.encode(prepared).numpy())
        return np.stack(features)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp("parity")
    write_world(root / "raw", SynthSettings(seed=5, train_clips=2, val_clips=1, test_clips=1, picture_size=64), workers=1)
    cache = Cache(root / "cache")
    files = {path.stem: path for path in sorted((root / "raw" / "clips").glob("*.mp4"))}
    jobs = {clip: Job(clip, str(path), file_sha256(path), 0.0, SEGMENTS, 1.0, MEDIA, cache.root) for clip, path in files.items()}
    return World(root, cache, jobs)


@pytest.fixture(scope="session")
def index(world) -> pd.DataFrame:
    rows = [{"clip": job.clip, "file": job.file, "sha256": job.sha256, "start": 0.0} for job in world.jobs.values()]
    return pd.DataFrame(rows)


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves a mark where the histograms would be: they are drawn in test_parity_measures."""
    monkeypatch.setattr(report, "draw", lambda measured, path: path.write_bytes(b"undrawn"))


@pytest.fixture
def make_store():
    return store_of
