"""The choice of clips to train on, and of their frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.contrastive import data
from pipeline.contrastive.data import draw_middle, draw_random, pooled_audio
from pipeline.encoders import create
from pipeline.errors import PipelineError
from pipeline.media.job import KIND


def ids(items):
    return [item.clip for item in items]


@pytest.mark.fault(12, 14)
def test_each_content_is_chosen_once_and_held_out_content_never(world):
    world.add("twin", "train", content=0)  # the bytes of t0 under another id
    world.add("window", "train", content=0, start=3.0)  # the same file, another window: kept, as one group with t0
    world.add("in_val", "train", content=10)
    world.add("in_test", "train", content=16)
    world.add("val_in_test", "val", content=17)
    world.add("cut", "train", content=50, status="truncated")
    world.add("silent", "train", content=51, status="silent", sound=False)
    world.rows.append({**world.rows[1], "row": 99})  # a second annotation row of t1
    world.rows.append({"row": 100, "clip": "lost", "split": "train", "sha256": None})
    chosen = world.select()
    assert ids(chosen.train) == [*(f"t{number}" for number in range(10)), "window"]
    assert ids(chosen.validation) == [f"v{number}" for number in range(10, 15)]
    assert chosen.left_out["also in val or test"] == ["in_val", "in_test", "val_in_test"]
    assert chosen.left_out["not decoded, or without a segment with picture and sound"] == ["cut", "silent", "lost"]


def test_segments_beyond_the_end_of_a_clip_are_not_drawn(world):
    world.add("short", "train", content=60, status="padded", seconds=1.4)
    item = next(item for item in world.select().train if item.clip == "short")
    assert item.segments == (0, 1)
    assert all(draw_random(item, 0, epoch, None, 1).segments == (0, 1) for epoch in range(5))


def test_draws_are_random_and_depend_on_clip_seed_and_epoch_alone(world):
    items = world.select().train
    draws = [draw_random(item, 0, epoch, 2, 1) for item in items for epoch in range(20)]
    for draw in draws:
        assert len(draw.segments) == 2
        assert [frame // 2 for frame in draw.frames] == list(draw.segments)  # two frames a segment
    assert {segment for draw in draws for segment in draw.segments} == {0, 1, 2}
    assert {frame for draw in draws for frame in draw.frames} == set(range(6))
    assert draw_random(items[3], 0, 4, 2, 1) == draw_random(items[3], 0, 4, 2, 1)
    assert len({draw_random(items[3], seed, epoch, 2, 1) for seed in range(4) for epoch in range(4)}) > 4
    assert draw_random(items[0], 0, 0, None, 9).frames == tuple(range(6))  # never more than were decoded
    assert draw_middle(items[0]).frames == (1, 3, 5)


def test_audio_is_the_encoders_output_averaged_over_the_segments_drawn_and_kept_in_the_cache(world, monkeypatch):
    items, encoder = world.select().train[:3], create("logmel")
    features = data.audio_features(world.cache, encoder, items, torch.device("cpu"))
    draws = [draw_random(item, 0, 0, 2, 1) for item in items]
    pooled = pooled_audio(features, draws)
    for number, draw in enumerate(draws):
        _, waveform, rate = data.load_decoded(world.cache, draw.item.clip, draw.item.job.key)
        audio = encoder.encode(encoder.prepare(torch.from_numpy(waveform), rate, 3, 1.0)).double()
        expected = sum(audio[segment] for segment in draw.segments) / 2
        np.testing.assert_allclose(pooled[number].numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(type(encoder), "encode", None)  # a second run reads the cache
    again = data.audio_features(world.cache, encoder, items, torch.device("cpu"))
    assert all(torch.equal(again[clip], features[clip]) for clip in features)


@pytest.mark.fault(30)
def test_audio_that_is_not_finite_names_the_clip(world, monkeypatch):
    encoder = create("logmel")
    monkeypatch.setattr(type(encoder), "encode", lambda self, batch: torch.full((len(batch), 128), torch.inf))
    with pytest.raises(PipelineError, match=r"clip 't0'.*logmel.*finite"):
        data.audio_features(world.cache, encoder, world.select().train, torch.device("cpu"))


@pytest.mark.fault(30)
def test_a_clip_whose_frames_vanished_is_named(world, tmp_path):
    """The frames are read ahead, in threads, by a running fine-tuning."""
    lost = world.jobs["t4"]
    world.cache.path(KIND, lost.key).unlink()
    with pytest.raises(PipelineError, match="clip 't4'"):
        world.run(tmp_path / "tuned")
