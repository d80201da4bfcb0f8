"""Models in local folders: CLAP, AST and models of the raw waveform against transformers' own classes and front ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.encoders import create
from pipeline.errors import PipelineError

DATA = Path(__file__).with_name("data")
RATE = 16_000


def tone(seconds: float) -> torch.Tensor:
    """(L,) of exact 16-bit numbers, so that CLAP's rounding changes nothing."""
    time = torch.arange(round(RATE * seconds)) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return ((0.4 * torch.sin(2 * torch.pi * (200 + 900 * time) * time) + 0.05 * noise) * 32767).to(torch.int16).float() / 32767


def saved(directory: Path, name: str, network_class, **changes) -> tuple[Path, torch.nn.Module]:
    """A folder as a model is published, random weights in it, and the model."""
    folder = directory / name
    shutil.copytree(DATA / name, folder)
    settings = network_class.config_class.from_pretrained(DATA / name)
    for key, value in changes.items():
        setattr(settings.audio_config, key, value)
    torch.manual_seed(3)
    network = network_class(settings).eval()
    network.save_pretrained(folder)
    return folder, network


@pytest.mark.parametrize("fused", [False, True])
def test_clap_is_transformers_clap(tmp_path, fused):
    from transformers import ClapFeatureExtractor, ClapModel

    changes = {"enable_fusion": True, "fusion_type": "aff_2d"} if fused else {}
    folder, reference = saved(tmp_path, "clap", ClapModel, **changes)
    front = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    front["truncation"] = "fusion" if fused else "rand_trunc"
    (folder / "preprocessor_config.json").write_text(json.dumps(front), encoding="utf-8")
    encoder = create("clap", folder=str(folder))
    assert encoder.output_shape == (24,)
    waveform = tone(2.1)
    prepared = encoder.prepare(waveform, RATE, 3, 0.7)
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    theirs = extractor([part.numpy() for part in waveform.split(round(0.7 * RATE))], sampling_rate=RATE, return_tensors="np")
    np.testing.assert_allclose(prepared, np.stack(theirs["input_features"]), atol=2e-3)  # of up to 100 dB
    with torch.inference_mode():
        ours = encoder.encode(prepared)
        longer = torch.zeros(3, 1, dtype=torch.bool)
        expected = reference.get_audio_features(input_features=prepared, is_longer=longer).pooler_output
    torch.testing.assert_close(torch.nn.functional.normalize(ours, dim=-1), expected)
    assert not torch.allclose(ours.norm(dim=-1), torch.ones(3))  # not normalised
    pooled = create("clap", folder=str(folder), pool="pooled")
    assert pooled.output_shape == (32,)
    with torch.inference_mode():
        torch.testing.assert_close(reference.audio_projection(pooled.encode(prepared)), ours)


def test_ast_is_transformers_ast(tmp_path):
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    folder, reference = saved(tmp_path, "ast", ASTForAudioClassification)
    encoder = create("ast", folder=str(folder))
    waveform = tone(2.0)
    prepared = encoder.prepare(waveform, RATE, 2, 1.0)
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    theirs = extractor([part.numpy() for part in waveform.split(RATE)], sampling_rate=RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(prepared, theirs, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(prepared), reference.audio_spectrogram_transformer(theirs).pooler_output)


def test_a_model_of_the_waveform_is_transformers_own(tmp_path):
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder, reference = saved(tmp_path, "wav2vec2", Wav2Vec2Model)
    encoder = create("waveform_transformer", folder=str(folder))
    waveform = tone(2.0)
    prepared = encoder.prepare(waveform, RATE, 2, 1.0)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    theirs = extractor([part.numpy() for part in waveform.split(RATE)], sampling_rate=RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(prepared, theirs, atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(prepared), reference(prepared).last_hidden_state.mean(1))


@pytest.mark.fault(25)
def test_the_folder_and_its_weights_are_in_the_key(tmp_path):
    from transformers import ASTModel

    folder, network = saved(tmp_path, "ast", ASTModel)
    keys = [create("ast", folder=str(folder)).spec()]
    front = folder / "preprocessor_config.json"
    front.write_text(front.read_text(encoding="utf-8").replace("-4.2677393", "-4"), encoding="utf-8")
    keys.append(create("ast", folder=str(folder)).spec())
    with torch.no_grad():
        network.layernorm.weight.add_(1)
    network.save_pretrained(folder)
    keys.append(create("ast", folder=str(folder)).spec())
    moved = folder.rename(tmp_path / "elsewhere")
    assert create("ast", folder=str(moved)).spec() == keys[-1]  # where it lies is not
    assert len({json.dumps(key) for key in keys}) == 3


def test_folders_that_cannot_be_used_are_one_sentence(tmp_path):
    from transformers import ASTModel

    with pytest.raises(PipelineError, match=r"clap: there is no .*config\.json.*laion/clap"):
        create("clap", folder=str(tmp_path))
    with pytest.raises(PipelineError, match=r"holds a model of type 'wav2vec2', not 'audio-spectrogram-transformer'"):
        create("ast", folder=str(DATA / "wav2vec2"))
    with pytest.raises(PipelineError, match="type 'audio-spectrogram-transformer', which takes no raw waveform"):
        create("waveform_transformer", folder=str(DATA / "ast"))
    with pytest.raises(PipelineError, match=r"no model\.safetensors or pytorch_model\.bin in"):
        create("ast", folder=str(DATA / "ast"))
    folder, _ = saved(tmp_path, "ast", ASTModel)
    config = folder / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"intermediate_size": 32', '"intermediate_size": 48'), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"model\.safetensors: \d+ layers that ASTModel needs.*another architecture"):
        create("ast", folder=str(folder))
    settings = json.loads(config.read_text(encoding="utf-8")) | {"transformers_weights": "other.safetensors"}
    config.write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy2(folder / "model.safetensors", folder / "other.safetensors")
    with pytest.raises(PipelineError, match=r"config\.json names 'other\.safetensors' as the file of its weights"):
        create("ast", folder=str(folder))
    config.write_text("[", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"config\.json: not a JSON object"):
        create("ast", folder=str(folder))


@pytest.mark.fault(15)
def test_code_in_a_folder_is_neither_run_nor_asked_about(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = shutil.copytree(DATA / "wav2vec2", tmp_path / "model")
    (folder / "mine.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"config\.json: transformers cannot read it"):
        create("waveform_transformer", folder=str(folder), weights="none")
    assert not (tmp_path / "ran").exists()
