"""Prompts through small random CLIP and CLAP networks against transformers' own scores, and the command ``texts``."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.__main__ import main
from pipeline.cache import file_sha256
from pipeline.datasets.llp import CLASSES
from pipeline.errors import PipelineError
from pipeline.labels.text_networks import embed
from pipeline.labels.texts import read_texts
from pipeline.labels.valor import VALOR
from tests.wording import says

PROMPTS = {"Dog": "a dog", "Fire_alarm": "the sound of a fire alarm"}
LAYERS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def write_tokenizer(folder, kind: str) -> int:
    """Letters, and at the end of a word for CLIP; returns the number of tokens."""
    letters = [*string.ascii_letters, *".,()'", "Ġ"]
    if kind == "clip":
        words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
        special = {"bos_token": words[0], "eos_token": words[1], "unk_token": words[1], "pad_token": words[1]}
        facts = {"tokenizer_class": "CLIPTokenizer", **special}
    else:
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
        facts = {"tokenizer_class": "RobertaTokenizer", "pad_token": "<pad>"}
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({**facts, "model_max_length": 60}), encoding="utf-8")
    return len(words)


def tiny(kind: str):
    """A small network of the kind, and its configuration's class."""
    from transformers import ClapConfig, ClapModel, CLIPConfig, CLIPModel

    torch.manual_seed(2)
    if kind == "clip":
        text = {**LAYERS, "vocab_size": 200, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        return CLIPModel(CLIPConfig(text_config=text, vision_config={**LAYERS, "image_size": 32, "patch_size": 16}, projection_dim=12))
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "hidden_size": 16,
    }
    text = {**LAYERS, "vocab_size": 200, "max_position_embeddings": 64}
    return ClapModel(ClapConfig(text_config=text, audio_config={**audio, "window_size": 4}, projection_dim=12))


@pytest.fixture(scope="module", params=["clip", "clap"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / f"tiny-{request.param}"
    folder.mkdir()
    network = tiny(request.param).eval()
    network.save_pretrained(folder)
    write_tokenizer(folder, request.param)
    return request.param, folder, network


def test_scores_of_a_table_are_those_of_the_whole_network(model):
    kind, folder, network = model
    table = embed(folder, PROMPTS)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for number, prompt in enumerate(PROMPTS.values()):  # one by one: padding changes nothing
        tokens = dict(tokenizer([prompt], return_tensors="pt"))
        with torch.inference_mode():
            if kind == "clip":
                images = torch.randn(3, 3, 32, 32)
                ours = network.get_image_features(pixel_values=images).pooler_output
                theirs = network(pixel_values=images, **tokens).logits_per_image[:, 0]
            else:
                sounds = torch.randn(3, 1, 256, 16)
                ours = network.get_audio_features(input_features=sounds).pooler_output
                theirs = network(input_features=sounds, **tokens).logits_per_audio[:, 0]
        cosines = torch.nn.functional.normalize(ours, dim=-1).numpy() @ table.embeddings[number]
        np.testing.assert_allclose(table.scale * cosines, theirs.numpy(), rtol=1e-4, atol=1e-5)
    assert table.weights == file_sha256(folder / "model.safetensors")
    assert (table.classes, table.prompts, table.model) == (tuple(PROMPTS), tuple(PROMPTS.values()), f"tiny-{kind}")


def test_the_command_asks_valor_s_prompts(model, tmp_path, monkeypatch, capsys):
    kind, folder, _ = model
    run(monkeypatch, folder, "--prompts", "valor", "--out", tmp_path / "new" / "texts.npz")
    table = read_texts(tmp_path / "new" / "texts.npz")
    assert table.classes == CLASSES
    assert table.prompts == tuple(VALOR[{"clip": "visual", "clap": "audio"}[kind]].prompts.values())
    assert says(capsys.readouterr().out, "texts.npz", "25", "12")


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr("sys.argv", ["pipeline", "texts", *map(str, arguments)])
    main()


@pytest.mark.parametrize("model", ["clip"], indirect=True)
@pytest.mark.parametrize(
    ("prompts", "parts"),
    [
        ("{Dog: a dog}", ("no entry", "Fire_alarm")),
        ("{Dog: a dog, Fire_alarm: an alarm, Cow: a cow}", ("no class", "Cow")),
        ("{Dog: 3, Fire_alarm: x}", ("both texts",)),
        ("- Dog", ("mapping",)),
    ],
)
def test_prompts_for_other_classes_are_refused(model, tmp_path, monkeypatch, capsys, prompts, parts):
    (tmp_path / "classes.txt").write_text("Fire_alarm\nDog\n", encoding="utf-8")
    (tmp_path / "prompts.yaml").write_text(prompts, encoding="utf-8")
    with pytest.raises(SystemExit):
        run(
            monkeypatch,
            model[1],
            "--prompts",
            tmp_path / "prompts.yaml",
            "--classes",
            tmp_path / "classes.txt",
            "--out",
            tmp_path / "x.npz",
        )
    assert says(capsys.readouterr().err, "prompts.yaml", *parts)
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("model", ["clip"], indirect=True)
def test_a_template_is_asked_of_every_class_in_the_data_s_order(model, tmp_path, monkeypatch):
    (tmp_path / "classes.txt").write_text("Fire_alarm\nDog\n", encoding="utf-8")
    run(monkeypatch, model[1], "--prompts", "a {}.", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "x.npz")
    assert read_texts(tmp_path / "x.npz").prompts == ("a Fire alarm.", "a Dog.")


def test_a_folder_without_weights_or_of_another_model_is_named(model, tmp_path):
    folder = model[1]
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(PipelineError, match=r"model\.safetensors"):
        embed(tmp_path, PROMPTS)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if "text_projection" not in name},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(PipelineError, match="text_projection"):
        embed(tmp_path, PROMPTS)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(PipelineError, match="bert"):
        embed(tmp_path, PROMPTS)
