"""The cache entries that params.yaml needs are those that its stages have made, no more and no fewer."""

from __future__ import annotations

import pytest

from pipeline import config
from pipeline.cache import Cache
from pipeline.contrastive.batches import Batches, Clips
from pipeline.contrastive.data import draw_middle, drawn_key, select
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.features.settings import EncoderChoice
from pipeline.needed_entries import KINDS, needed_entries
from stages.clips import read_clips

TUNING = {"visual": {"encoder": "timm", "model": "test_resnet", "weights": "none"}, "audio": {"encoder": "logmel"}, "device": "cpu"}


@pytest.fixture
def params(tiny, monkeypatch):
    project = tiny[0]
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AVEL_CACHE", str(project.cache))
    return config.load(project.root / "params.yaml")


def places(tiny):
    return tiny[0].root / "data/index", tiny[0].root / "data/clips"


def made(kind):
    return {each.key for each in Cache().entries() if each.kind == kind}


def test_they_are_what_the_stages_have_made(params, tiny):
    needed = needed_entries(params, *places(tiny))
    assert needed.unknown == {}
    for kind in ("decoded", "features", "hashes", "contrastive_audio", "drawn_frames"):
        assert needed.keys[kind] == made(kind), kind
    assert needed.keys["verdicts"] == needed.keys["decoded"]  # `media.keep` may change from run to run
    assert len(needed.keys["features"]) > len(needed.keys["decoded"]) > 0


def test_another_setting_needs_others_and_any_device_is_kept(params, tiny):
    media = params.media.model_copy(update={"frames_per_second": 2.0})
    assert needed_entries(params.model_copy(update={"media": media}), *places(tiny)).keys["decoded"].isdisjoint(made("decoded"))
    features = {name: each.model_copy(update={"device": "auto"}) for name, each in params.features.items()}
    of_any = needed_entries(params.model_copy(update={"features": features}), *places(tiny)).keys["features"]
    assert of_any > made("features")


def test_what_cannot_be_told_is_said(params, tiny, tmp_path):
    assert set(needed_entries(params, tmp_path, tmp_path).unknown) == {*KINDS} - {"hashes"}
    dataset = params.dataset.model_copy(update={"annotations": tmp_path})  # its clips are not those of the index
    other = needed_entries(params.model_copy(update={"dataset": dataset}), *places(tiny))
    assert set(other.unknown) == {*KINDS} - {"hashes"}
    assert "dataset.annotations" in other.unknown["decoded"]
    first = params.features["first"]
    visual = EncoderChoice(**{**first.visual.model_dump(), "weights": "finetuned/eye"})
    features = {"first": first.model_copy(update={"visual": visual})}
    needed = needed_entries(params.model_copy(update={"features": features}), *places(tiny))
    assert list(needed.unknown) == ["features"]
    assert "features.first" in needed.unknown["features"]


def test_frames_that_fine_tuning_draws_once_are_needed(params, tiny):
    settings = {draw: FinetuneSettings.model_validate({**TUNING, "draw": draw}) for draw in ("once", "every_epoch")}
    found = {}
    for draw, each in settings.items():
        found[draw] = needed_entries(params.model_copy(update={"finetune": {"eye": each}}), *places(tiny))
    index, manifest, jobs = read_clips(params, Cache())
    chosen = select(index, manifest, jobs)
    batches = Batches(Clips(chosen.train, {}), settings["once"])
    validation = {drawn_key(draw_middle(item)) for item in chosen.validation}
    assert found["once"].keys["drawn_frames"] == {drawn_key(batches.draw(item, 5)) for item in chosen.train} | validation
    assert found["every_epoch"].keys["drawn_frames"] == {drawn_key(draw_middle(item)) for item in chosen.train} | validation
    assert len(validation) == 2
    assert found["once"].unknown == {}
    assert len(found["once"].keys["contrastive_audio"]) == len(jobs)
    lost = needed_entries(params.model_copy(update={"finetune": {"eye": settings["once"]}}), places(tiny)[0], tiny[0].root)
    assert list(lost.unknown) == ["drawn_frames"]
