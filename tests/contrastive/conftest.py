"""A little world of decoded clips to fine-tune on."""

from __future__ import annotations

import functools
import socket

import numpy as np
import pandas as pd
import pytest

from pipeline.cache import Cache
from pipeline.contrastive.data import select
from pipeline.contrastive.finetuning import Finetuning
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.media.job import KIND, Job
from pipeline.media.settings import MediaSettings

SEGMENTS, RATE, FRAMES = 3, 16000, 2
SETTINGS = {
    "visual": {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32},
    "audio": {"encoder": "logmel"},
    "standardize_audio": True, "width": 8, "segments": 2, "draw": "every_epoch", "batch_norm": "frozen", "learning_rate": 0.01,
    "momentum": 0.9, "head_epochs": 2, "epochs": 3, "batch_size": 4, "device": "cpu", "checkpoint_seconds": 1e6, "milestones": [2],
}  # fmt: skip


@functools.cache
def decoded(content: int) -> dict[str, np.ndarray]:
    """Coloured noise, brighter with the pitch of the tone."""
    random = np.random.default_rng(content)
    level = random.uniform(0.1, 0.9)
    frames = np.clip(random.normal(255 * level, 30, (SEGMENTS * FRAMES, 36, 40, 3)), 0, 255).astype(np.uint8)
    tone = 0.3 * np.sin(2 * np.pi * (200 + 3000 * level) * np.arange(SEGMENTS * RATE) / RATE)
    return {"frames": frames, "waveform": tone.astype(np.float32)}


class World:
    """Clips of coloured noise, brighter with the pitch of their tone; content number -> bytes."""

    def __init__(self, root, splits: str = "t" * 10 + "v" * 5 + "s" * 3) -> None:
        self.cache = Cache(root)
        self.jobs: dict[str, Job] = {}
        self.rows: list[dict] = []
        self.verdicts: list[dict] = []
        for content, letter in enumerate(splits):
            self.add(f"{letter}{content}", {"t": "train", "v": "val", "s": "test"}[letter], content)

    def add(self, clip, split, content, status="ok", seconds=3.0, start=0.0, sound=True):
        media = MediaSettings(frames_per_second=FRAMES)
        job = Job(clip, f"{clip}.mp4", f"{content:064x}", start, SEGMENTS, 1.0, media, self.cache.root)
        self.jobs[clip] = job
        self.rows.append({"row": len(self.rows), "clip": clip, "split": split, "sha256": job.sha256})
        self.cache.put(KIND, job.key, decoded(content), {"sample_rate": RATE})
        facts = {"clip": clip, "key": job.key, "status": status, "seconds": seconds}
        self.verdicts.append({**facts, "visual_valid": [True] * SEGMENTS, "audio_valid": [sound] * SEGMENTS})

    def select(self):
        return select(pd.DataFrame(self.rows), pd.DataFrame(self.verdicts), self.jobs)

    def finetuning(self, **changes) -> Finetuning:
        return Finetuning("tuned", FinetuneSettings.model_validate({**SETTINGS, **changes}), self.select(), self.cache)

    def run(self, directory, **changes) -> dict[str, bytes]:
        directory.mkdir(parents=True, exist_ok=True)
        self.finetuning(**changes).run(directory)
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture(scope="session")
def world_class() -> type[World]:
    return World


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / "cache")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
