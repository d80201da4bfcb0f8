"""The choice of the device; a requested GPU is never silently replaced by a CPU."""

from __future__ import annotations

import pytest
import torch

from pipeline.cache import Cache
from pipeline.contrastive.data import Selection
from pipeline.contrastive.finetuning import Finetuning
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.devices import choose_device
from pipeline.errors import PipelineError
from pipeline.features.extraction import Extraction
from pipeline.features.settings import FeatureSet
from pipeline.training.settings import TrainSettings
from pipeline.training.train import RunTraining

REFUSED = "device: cuda was asked for, but torch finds no usable GPU here; set device: auto or cpu"
VISUAL = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32}


@pytest.mark.parametrize(
    ("name", "available", "chosen"), [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")]
)
@pytest.mark.fault(28)
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, name, available, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device(name).type == chosen


@pytest.mark.fault(28)
def test_a_gpu_that_is_asked_for_and_missing_is_an_error_wherever_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    features = FeatureSet.model_validate({"visual": VISUAL, "audio": {"encoder": "logmel"}, "device": "cuda"})
    tuning = FinetuneSettings.model_validate({"visual": VISUAL, "audio": {"encoder": "logmel"}, "device": "cuda"})
    ways = {
        "any": lambda: choose_device("cuda"),
        "extract": lambda: Extraction(features, {}, Cache(tmp_path)),
        "finetune": lambda: Finetuning("tuned", tuning, Selection([], []), Cache(tmp_path)).run(tmp_path),
        "train": lambda: RunTraining.load(None, TrainSettings(device="cuda"), tmp_path, tmp_path),
    }
    for name, ask in ways.items():
        with pytest.raises(PipelineError) as caught:
            ask()
        assert str(caught.value) == REFUSED, name
