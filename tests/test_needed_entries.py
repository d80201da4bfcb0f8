"""The cache entries that params.yaml needs are those that its stages have made, no more and no fewer."""

from __future__ import annotations

import pytest

from pipeline import config
from pipeline.cache import Cache
from pipeline.features.settings import EncoderChoice
from pipeline.needed_entries import needed_entries


@pytest.fixture
def params(tiny, monkeypatch):
    project = tiny[0]
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AVEL_CACHE", str(project.cache))
    return config.load(project.root / "params.yaml")


def made(kind):
    return {each.key for each in Cache().entries() if each.kind == kind}


def test_they_are_what_the_stages_have_made(params, tiny):
    needed = needed_entries(params, tiny[0].root / "data/index")
    assert needed.unknown == {}
    assert needed.keys == {kind: made(kind) for kind in ("decoded", "features", "contrastive_audio")}
    assert len(needed.keys["features"]) > len(needed.keys["decoded"]) > 0


def test_another_setting_needs_others_and_any_device_is_kept(params, tiny):
    index = tiny[0].root / "data/index"
    media = params.media.model_copy(update={"frames_per_second": 2.0})
    assert needed_entries(params.model_copy(update={"media": media}), index).keys["decoded"].isdisjoint(made("decoded"))
    features = {name: each.model_copy(update={"device": "auto"}) for name, each in params.features.items()}
    of_any = needed_entries(params.model_copy(update={"features": features}), index).keys["features"]
    assert of_any > made("features")


def test_what_cannot_be_told_is_said(params, tiny, tmp_path):
    assert set(needed_entries(params, tmp_path).unknown) == {"decoded", "features", "contrastive_audio"}
    first = params.features["first"]
    visual = EncoderChoice(**{**first.visual.model_dump(), "weights": "finetuned/eye"})
    features = {"first": first.model_copy(update={"visual": visual})}
    needed = needed_entries(params.model_copy(update={"features": features}), tiny[0].root / "data/index")
    assert list(needed.unknown) == ["features"]
    assert "features.first" in needed.unknown["features"]
