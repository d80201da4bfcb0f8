"""The block ``finetune`` and the key ``finetuned`` of params.yaml, and the stages that follow a fine-tuning."""

from __future__ import annotations

import re

import pytest
from ruamel.yaml import YAML
from tiny_project import FEATURES, RUN, TINY, Project

from pipeline import config
from pipeline.errors import InputProblems
from tests.wording import says

TUNING = {"visual": {"encoder": "efficientnet_lite0", "image_size": 64, "resize": 64}, "audio": {"encoder": "logmel"}, "epochs": 1}


def params(tuning=None, **feature_set):
    visual = {**FEATURES["visual"], "weights": "finetuned/eye"}
    tuned = {**FEATURES, "finetuned": "eye", "visual": visual, **feature_set}
    return {
        **TINY,
        "finetune": {"eye": {**TUNING, **(tuning or {})}},
        "features": {**TINY["features"], "third": {key: value for key, value in tuned.items() if value is not None}},
        "runs": {**TINY["runs"], "avel_third": {**RUN, "method": "avel", "features": "third"}},
    }


def problems(tmp_path, content):
    YAML(typ="safe").dump(content, tmp_path / "params.yaml")
    try:
        config.load(tmp_path / "params.yaml")
    except InputProblems as error:
        return error.problems
    return []


def test_a_fine_tuned_feature_set_is_valid(tmp_path):
    assert problems(tmp_path, params()) == []
    assert problems(tmp_path, {**TINY, "finetune": {}}) == []


@pytest.mark.parametrize(
    ("tuning", "feature_set", "expected"),
    [
        ({}, {"finetuned": None}, ("features.third.finetuned: ",)),
        ({}, {"finetuned": "none"}, ("features.third.finetuned: ", "finetuned/eye")),
        ({}, {"finetuned": "eyes"}, ("features.third.finetuned: ", "'eyes'", "'eye'")),
        ({}, {"visual": FEATURES["visual"]}, ("features.third.visual.weights: ", "finetuned/eye")),
        ({}, {"visual": {"encoder": "resnet50", "weights": "finetuned/eye"}}, ("features.third.visual.encoder: ", "eye")),
        ({}, {"audio": {"encoder": "yamnet", "weights": "finetuned/eye"}}, ("features.third.audio.weights: ", "finetuned/eye", "audio")),
        ({"visual": {"encoder": "efficientnet_lite"}}, {}, ("finetune.eye.visual.encoder: unknown",)),
        ({"visual": {"encoder": "logmel"}}, {}, ("finetune.eye.visual.encoder: ", "'logmel'", "audio", "visual")),
        ({"visual": {**TUNING["visual"], "imagesize": 3}}, {}, ("finetune.eye.visual.imagesize: unknown", "'image_size'")),
        ({"visual": {**TUNING["visual"], "weights": "finetuned/eye"}}, {}, ("finetune.eye.visual.weights: ",)),
        ({"temprature": 0.1}, {}, ("finetune.eye.temprature: unknown", "'temperature'")),
        ({"gradient_cache": 4}, {}, ("finetune.eye: ", "gradient_cache", "batch_norm: frozen")),
        ({"devices": 3}, {}, ("finetune.eye: ", "batch_size 128", "devices 3")),
        ({"variant": "paper", "head_epochs": 1}, {}, ("finetune.eye: ", "paper", "heads")),
    ],
)
def test_each_problem_is_reported(tmp_path, tuning, feature_set, expected):
    found = problems(tmp_path, params(tuning, **feature_set))
    assert any(problem.startswith(expected[0]) and says(problem, *expected) for problem in found), found


def test_the_name_none_is_reserved(tmp_path):
    content = {**TINY, "finetune": {"none": TUNING}}
    assert [problem for problem in problems(tmp_path, content) if problem.startswith("finetune.none: ") and "'none'" in problem]


def test_a_fine_tuning_is_followed_by_its_feature_set_and_that_sets_runs(tmp_path, repository, programs):
    project = Project(tmp_path, repository, programs)
    project.write_params(params())
    project.commit()
    output = project.run("dvc", "repro", "--dry", "--force", "--downstream", "finetune@eye")
    below = set(re.findall(r"Running stage '([^']+)'", output))
    assert below == {"finetune@eye", "extract@third", "train@avel_third", "evaluate@avel_third", "report"}
    stages = YAML(typ="safe").load(repository / "dvc.yaml")["stages"]
    tracked = {name: stage.get("do", stage)["params"] for name, stage in stages.items()}
    assert [name for name in tracked if any("finetune" in param for param in tracked[name])] == ["plan", "finetune"]
    assert project.run("git", "status", "--porcelain", "--ignored", "models/encoders").strip() == ""
    (project.root / "models/encoders/eye").mkdir()
    (project.root / "models/encoders/eye/encoder.safetensors").write_bytes(b"x")
    assert project.run("git", "status", "--porcelain", "models/encoders").strip() == ""
