import threading

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import encoders
from pipeline.cache import Cache
from pipeline.errors import PipelineError
from pipeline.features import prefetch
from pipeline.features.runner import Extraction
from pipeline.features.settings import FeatureSet
from pipeline.features.store import FeatureStore
from pipeline.media import decoding
from pipeline.media.decoding import Job
from pipeline.media.settings import MediaSettings

SEGMENTS, FRAMES, RATE = 3, 2, 16000
VISUAL = {"encoder": "efficientnet_lite0", "weights": "none", "image_size": 32, "resize": 32, "pool": "average"}
SETTINGS = FeatureSet.model_validate(
    {"visual": VISUAL, "audio": {"encoder": "logmel"}, "dtype": "float16", "batch_size": 4, "device": "cpu"}
)


class World:
    """Decoded clips in a cache, as the decode stage leaves them."""

    def __init__(self, root, contents=(0, 1, 2, 3)):
        self.cache = Cache(root)
        self.jobs: dict[str, Job] = {}
        self.verdicts: list[dict] = []
        for content in contents:
            self.add(f"clip{len(self.jobs)}", content)

    def add(self, clip, content, status="ok", seconds=3.0):
        job = Job(clip, f"{clip}.mp4", f"{content:064x}", 0.0, SEGMENTS, 1.0, MediaSettings(), self.cache.root)
        self.jobs[clip] = job
        self.cache.put(decoding.KIND, job.key, self.arrays(content), {"sample_rate": RATE})
        facts = {"clip": clip, "key": job.key, "status": status, "seconds": seconds}
        self.verdicts.append({**facts, "visual_valid": [True] * SEGMENTS, "audio_valid": [status != "silent"] * SEGMENTS})

    @staticmethod
    def arrays(content):
        rng = np.random.default_rng(content)
        return {
            "frames": rng.integers(0, 256, (SEGMENTS * FRAMES, 40, 48, 3), dtype=np.uint8),
            "waveform": rng.normal(0, 0.1, SEGMENTS * RATE).astype(np.float32),
        }

    def extract(self, directory, settings=SETTINGS):
        directory.mkdir()
        return Extraction(settings, self.jobs, self.cache).run(pd.DataFrame(self.verdicts), directory)

    def bytes(self, directory):
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_features_are_the_encoders_output_averaged_over_the_frames_of_a_segment(tmp_path):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "store")
    store = FeatureStore(tmp_path / "store")
    assert store.shapes == {"visual": (320,), "audio": (128,)}
    visual = encoders.create("efficientnet_lite0", **SETTINGS.visual.options)
    audio = encoders.create("logmel")
    for number in range(4):
        arrays = world.arrays(number)
        with torch.inference_mode():
            single = [visual.encode(visual.prepare(torch.from_numpy(frame[None]))) for frame in arrays["frames"]]
            heard = audio.encode(audio.prepare(torch.from_numpy(arrays["waveform"]), RATE, SEGMENTS, 1.0))
        expected = torch.cat(single).view(SEGMENTS, FRAMES, 320).double().mean(1).numpy()
        np.testing.assert_allclose(store.read("visual", [f"clip{number}"])[0], expected, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(store.read("audio", [f"clip{number}"])[0], heard.numpy(), rtol=2e-3, atol=2e-3)


def test_bad_clips_are_left_out_and_said_and_short_ones_are_masked(tmp_path):
    world = World(tmp_path / "cache")
    world.add("short", 7, status="padded", seconds=1.5)
    world.add("broken", 8, status="truncated")
    message = world.extract(tmp_path / "store")
    store = FeatureStore(tmp_path / "store")
    assert "broken" not in store
    assert store.valid(["clip0", "short"]).tolist() == [[True, True, True], [True, True, False]]
    assert message == "5 clips stored, 5 encoded, 1 left out by their status"


def test_an_interrupted_extraction_loses_no_finished_clip_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    whole = World(tmp_path / "whole")
    whole.extract(tmp_path / "expected")
    world = World(tmp_path / "cache")
    encode, seen = Extraction._encode, []

    def interrupted(self, clip, prepared):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(clip.job.clip)
        encode(self, clip, prepared)

    monkeypatch.setattr(Extraction, "_encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.extract(tmp_path / "half")
    monkeypatch.setattr(Extraction, "_encode", encode)
    assert world.extract(tmp_path / "resumed").startswith("4 clips stored, 2 encoded")
    assert world.bytes(tmp_path / "resumed") == world.bytes(tmp_path / "expected")


def test_one_more_clip_is_one_more_encoding_and_equal_bytes_are_encoded_once(tmp_path):
    world = World(tmp_path / "cache", contents=(0, 1, 1))
    assert world.extract(tmp_path / "a").startswith("3 clips stored, 2 encoded")
    world.add("new", 5)
    assert world.extract(tmp_path / "b").startswith("4 clips stored, 1 encoded")
    store = FeatureStore(tmp_path / "b")
    np.testing.assert_array_equal(store.read("visual", ["clip1"]), store.read("visual", ["clip2"]))


def test_a_change_of_one_encoder_leaves_the_other_ones_features(tmp_path, monkeypatch):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "a")
    prepared = []
    encode = Extraction._encode
    monkeypatch.setattr(Extraction, "_encode", lambda self, clip, batch: (prepared.append(set(batch)), encode(self, clip, batch)))
    world.extract(tmp_path / "b", FeatureSet.model_validate({**SETTINGS.model_dump(), "visual": {**VISUAL, "crop": False}}))
    assert prepared == [{"visual"}] * 4


def test_a_damaged_cache_entry_is_made_again(tmp_path):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "a")
    for path in (world.cache.root / "features").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-20])
    world.extract(tmp_path / "b")
    assert world.bytes(tmp_path / "a") == world.bytes(tmp_path / "b")


def test_features_that_do_not_fit_the_dtype_stop_with_the_clips_name(tmp_path, monkeypatch):
    world = World(tmp_path / "cache", contents=(0,))
    logmel = encoders.ENCODERS.get("logmel")
    monkeypatch.setattr(logmel, "encode", lambda self, batch: torch.full((len(batch), 128), 1e5))
    with np.errstate(over="ignore"), pytest.raises(PipelineError, match=r"clip 'clip0'.*audio features are not finite in float16.*1e\+05"):
        world.extract(tmp_path / "a")


def test_a_clip_that_vanished_from_cache_and_disk_is_named(tmp_path):
    world = World(tmp_path / "cache", contents=(0,))
    world.cache.path(decoding.KIND, world.jobs["clip0"].key).unlink()
    with pytest.raises(PipelineError, match="clip 'clip0'"):
        world.extract(tmp_path / "a")


def test_loading_runs_ahead_but_never_far():
    started, lock = [], threading.Lock()

    def load(item):
        with lock:
            started.append(item)
        return -item

    results = []
    for item, result in prefetch.ahead(load, range(50)):
        results.append((item, result))
        assert len(started) <= item + 2 * prefetch.LOADERS + 1
    assert results == [(item, -item) for item in range(50)]
