"""The choice of the device; a requested GPU is never silently replaced by a CPU."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline.cache import Cache
from pipeline.contrastive.data import Selection
from pipeline.contrastive.finetuning import Finetuning
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.devices import choose_device, use_deterministic_kernels, use_precision
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


@pytest.fixture
def _settings_restored(monkeypatch):
    """Whatever the test sets in torch is as before."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    kinds = ("flash", "mem_efficient", "cudnn")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()
    attention = {kind: getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in kinds}
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.use_deterministic_algorithms(before[2])
    torch.utils.deterministic.fill_uninitialized_memory = filled
    for kind, enabled in attention.items():
        getattr(torch.backends.cuda, f"enable_{kind}_sdp")(enabled)


@pytest.mark.usefixtures("_settings_restored")
@pytest.mark.parametrize(("precision", "rounds"), [("32-true", False), ("tf32", True), ("bf16-mixed", False), ("64-true", False)])
def test_a_gpu_rounds_in_all_its_kernels_or_in_none(precision, rounds):
    torch.set_float32_matmul_precision("medium")
    use_precision(torch.device("cuda"), precision)
    assert torch.get_float32_matmul_precision() == ("high" if rounds else "highest")
    assert torch.backends.cudnn.allow_tf32 is rounds
    use_precision(torch.device("cpu"), "32-true" if rounds else "tf32")
    assert torch.backends.cudnn.allow_tf32 is rounds


@pytest.mark.usefixtures("_settings_restored")
def test_on_a_gpu_attention_and_products_take_the_deterministic_way():
    use_deterministic_kernels(torch.device("cuda"))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    enabled = {kind: getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in ("math", "flash", "mem_efficient", "cudnn")}
    assert enabled == {"math": True, "flash": False, "mem_efficient": False, "cudnn": False}
