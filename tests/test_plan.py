"""data/plan: what the entries of a params file choose."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import config
from pipeline.cache import file_sha256
from pipeline.encoders import ENCODERS as ENCODERS_HERE
from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.errors import InputProblems
from pipeline.features.settings import EncoderChoice
from pipeline.plan import choices, published_weights, write_plan
from tests.wording import each_says

ENCODERS = {"visual": {"encoder": "efficientnet_lite0"}, "audio": {"encoder": "logmel"}, "finetuned": "none"}
METHODS = "pipeline/methods/"
PARSING = {"task": "avvp", "features": "published"}
PARAMS = {
    "synth": {},
    "dataset": {"kind": "llp", "clips": "clips", "annotations": "annotations", "segments": 10, "segment_seconds": 1.0},
    "media": {},
    "finetune": {},
    "features": {"plain": ENCODERS, "vggish": {**ENCODERS, "audio": {"encoder": "vggish", "weights": "own/vggish.pth"}}},
    "imports": {
        "published": {
            "directory": "p",
            "visual": {"file": "v/{id}.npy", "shape": [8]},
            "audio": {"file": "a/{id}.npy", "shape": [8]},
            "others": {"motion": {"file": "m/{id}.npy", "shape": [8]}},
        }
    },
    "labels": {},
    "methods": {
        **{name: {} for name in ("avel", "cace_net", "cmpae", "coleaf", "han")},
        "jomold": {"noise_ratios": "own/ratios.npz"},
    },
    "train": {},
    "runs": {
        "avel": {"task": "avel", "method": "avel", "features": "plain"},
        "cace": {"task": "avel", "method": "cace_net", "features": "plain"},
        "han": {**PARSING, "method": "han"},
        "jomold": {**PARSING, "method": "jomold"},
        "cmpae": {**PARSING, "method": "cmpae"},
        "coleaf_han": {**PARSING, "method": "coleaf", "overrides": {"anchor": "han"}},
        "coleaf_jomold": {
            **PARSING,
            "method": "coleaf",
            "overrides": {"anchor": "jomold", "anchor_settings": {"noise_ratios": "own/other.npz"}},
        },
    },
    "report": {"title": "T"},
}

NEW_FILES = {
    "layers/brand_new_layer.py": "X = 1\n",
    "methods/brand_new_paper/__init__.py": '"""A paper with a block of its own."""\n',
    "methods/brand_new_paper/block.py": "from pipeline.layers.brand_new_layer import X\n",
    "methods/brand_new_paper/method.py": """
from pipeline.methods.avel import Avel
from pipeline.methods.base import METHODS
from pipeline.methods.brand_new_paper.block import X

@METHODS.register("brand_new")
class BrandNew(Avel):
    pass
""",
}
WRITE_PLAN = """
import sys
from pathlib import Path
from pipeline import config, plan
plan.write_plan(config.load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("params.yaml", "w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(PARAMS, stream)
    (tmp_path / "own").mkdir()
    for name in ("ratios", "other"):
        np.savez(tmp_path / "own" / f"{name}.npz", audio=np.zeros(25), visual=np.zeros(25))
    (tmp_path / "own" / "vggish.pth").write_bytes(b"weights")
    return config.load(tmp_path / "params.yaml")


def plan(params, directory):
    directory.mkdir()
    write_plan(params, directory)
    return written_in(directory)


def written_in(directory):
    files = directory.rglob("*.json")
    return {path.relative_to(directory).with_suffix("").as_posix(): json.loads(path.read_text(encoding="utf-8")) for path in files}


def test_a_run_depends_on_its_own_method_alone(params, tmp_path):
    written = plan(params, tmp_path / "plan")
    assert written.pop("checked") == {"params.yaml": "in order"}
    assert written.pop("sounds") == {"files": {}}
    assert written.pop("index") == {"code": {}, "files": {}}
    assert {*written} == {f"{stage}/{run}" for stage in ("train", "evaluate") for run in params.runs} | {"extract/plain", "extract/vggish"}
    methods = {
        name: {path.removeprefix(METHODS).removesuffix(".py") for path in written[f"train/{name}"]["code"] if path.startswith(METHODS)}
        for name in params.runs
    }
    common = {"base", "shared/inputs"}
    localization = {*common, "shared/localization"}
    assert methods["avel"] == {*localization, "avel"}
    heads, cace_net = {"shared/two_heads", "shared/suppression"}, {"cace_net/method", "cace_net/contrast", "cace_net/spiking"}
    assert methods["cace"] == {*localization, *heads, *cace_net}
    parsing = {*common, "shared/parsing", "shared/gates", "shared/tuning", "shared/anchor"}
    coleaf = {"coleaf/method", "coleaf/config", "coleaf/class_tokens", "coleaf/collaborative_losses"}
    cmpae = {"cmpae/method", "cmpae/evidence"}
    assert methods["han"] == {*parsing, "han"}
    assert methods["jomold"] == {*parsing, "shared/denoising", "jomold"}
    assert methods["cmpae"] == {*parsing, "shared/denoising", "jomold", *cmpae}  # trained first: JoMoLD
    assert methods["coleaf_han"] == {*parsing, *coleaf, "han"}
    assert methods["coleaf_jomold"] == {*parsing, *coleaf, "shared/denoising", "jomold"}
    assert all("pipeline/tasks/avel/targets.py" in written[f"train/{name}"]["code"] for name in ("avel", "cace"))
    assert all("pipeline/tasks/avel/targets.py" not in written[f"train/{name}"]["code"] for name in ("han", "jomold"))


@pytest.mark.parametrize(
    ("changed", "reruns"), [({"resident_gb": 0.5, "loggers": ["csv"], "checkpoint_seconds": 5.0}, False), ({"threads": 3}, True)]
)
def test_runs_depend_on_the_settings_of_training_that_can_change_a_number(params, tmp_path, changed, reruns):
    before = plan(params, tmp_path / "before")
    after = plan(params.model_copy(update={"train": params.train.model_copy(update=changed)}), tmp_path / "after")
    moved = {place for place, content in after.items() if content != before[place]}
    assert moved == ({f"{stage}/{run}" for stage in ("train", "evaluate") for run in params.runs} if reruns else set())


def test_the_bootstrap_moves_scores_and_no_weights(params, tmp_path):
    written = plan(params, tmp_path / "plan")
    assert "pipeline/metrics/bootstrap.py" in written["evaluate/han"]["code"]
    assert not any("pipeline/metrics/bootstrap.py" in content["code"] for place, content in written.items() if place.startswith("train/"))


def test_an_extraction_depends_on_its_own_encoders_alone(params, tmp_path):
    written = plan(params, tmp_path / "plan")
    networks = {"timm_models", "logmel", "vggish", "cnn14", "yamnet", "torchvision_models", "video_models"}
    for name, expected in {"plain": {"timm_models", "logmel"}, "vggish": {"timm_models", "vggish"}}.items():
        code = written[f"extract/{name}"]["code"]
        assert {network for network in networks if f"pipeline/encoders/{network}.py" in code} == expected


def test_a_new_encoder_with_weights_of_its_own_changes_no_other_s_plan(params, tmp_path, monkeypatch):
    written = plan(params, tmp_path / "plan")
    assert {*written["extract/plain"]["weights"]} == {"efficientnet_lite0"}
    assert {*written["extract/vggish"]["weights"]} == {"efficientnet_lite0", "vggish", "vggish_pca"}
    assert {name for encoder in ENCODERS_HERE.names() for name in published_weights(encoder)} == {*KNOWN}
    monkeypatch.setitem(KNOWN, "brand_new", KnownWeights("brand_new", "new.pth", "none"))
    assert plan(params, tmp_path / "second") == written
    monkeypatch.setitem(KNOWN, "vggish", dataclasses.replace(KNOWN["vggish"], sha256="0" * 64))
    third = plan(params, tmp_path / "third")
    assert [place for place in third if third[place] != written[place]] == ["extract/vggish"]


def test_named_files_are_there_by_content_and_by_a_link(params, tmp_path):
    written = plan(params, tmp_path / "plan")
    setting, override = "methods.jomold.noise_ratios", "runs.coleaf_jomold.overrides.anchor_settings.noise_ratios"
    assert written["train/jomold"]["files"] == {setting: file_sha256("own/ratios.npz")}
    assert written["train/coleaf_jomold"]["files"] == {override: file_sha256("own/other.npz")}
    assert written["extract/vggish"]["files"] == {"features.vggish.audio.weights": file_sha256("own/vggish.pth")}
    assert written["extract/plain"]["files"] == written["train/han"]["files"] == {}
    assert sorted(os.listdir(tmp_path / "plan/files")) == sorted([setting, override, "features.vggish.audio.weights"])
    assert os.path.samefile(tmp_path / "plan/files" / setting, "own/ratios.npz")
    np.savez("own/ratios.npz", audio=np.ones(25), visual=np.ones(25))
    again = plan(params, tmp_path / "again")
    assert [place for place in again if again[place] != written[place]] == ["train/jomold"]


def test_a_model_s_folder_is_there_by_its_files(params, tmp_path):
    folder = tmp_path / "clap"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}", encoding="utf-8")
    clap = params.features["plain"].model_copy(update={"audio": EncoderChoice(encoder="clap", folder=str(folder))})
    chosen = params.model_copy(update={"features": {"clap": clap}, "runs": {}})
    write_plan(chosen, tmp_path / "plan")
    files = json.loads((tmp_path / "plan/extract/clap.json").read_text(encoding="utf-8"))["files"]
    assert {setting.removeprefix("features.clap.audio.folder/") for setting in files} == {path.name for path in folder.iterdir()}
    assert all((tmp_path / "plan/files" / setting).resolve().parent == folder for setting in files)


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", ["mine_hear.py", "plan_package.model"])
def test_the_source_of_a_program_that_an_encoder_runs_is_there_by_content_and_by_links(name, params, tmp_path, monkeypatch):
    """A file beside it that it imports; a module of its installed package. Nothing of it is run."""
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"mine_hear.py": "import mine_layers\n", "mine_layers.py": "raise SystemExit\n"}
    package = {"plan_package/__init__.py": "raise SystemExit\n", "plan_package/model.py": "", "plan_package/depth.py": ""}
    files = own if name in own else package
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content, encoding="utf-8")
    hear = params.features["plain"].model_copy(update={"audio": EncoderChoice(encoder="hear", module=name)})
    chosen = params.model_copy(update={"features": {"hear": hear}, "runs": {}})
    written = plan(chosen, tmp_path / "plan")["extract/hear"]["files"]
    assert sorted(written.values()) == sorted(file_sha256(tmp_path / file) for file in files)
    assert {(tmp_path / "plan/files" / setting).resolve() for setting in written} == {tmp_path / file for file in files}
    *_, last = files
    (tmp_path / last).write_text("DEPTH = 2\n", encoding="utf-8")
    again = plan(chosen, tmp_path / "again")["extract/hear"]["files"]
    assert [Path(setting).name for setting in again if again[setting] != written[setting]] == [Path(last).name]


def test_files_that_are_not_there_are_named_all_at_once(params, tmp_path):
    (tmp_path / "own/other.npz").unlink()
    (tmp_path / "own/vggish.pth").unlink()
    with pytest.raises(InputProblems) as caught:
        plan(params, tmp_path / "plan")
    expected = [
        ("runs.coleaf_jomold.overrides.anchor_settings.noise_ratios: ", "own/other.npz"),
        ("features.vggish.audio.weights: ", "own/vggish.pth"),
    ]
    assert each_says(caught.value.problems, expected)


def test_nothing_but_files_of_the_project_is_chosen(params):
    assert all(path.is_file() for choice in choices(params) for path in choice.code)


def test_a_new_method_and_a_new_layer_are_in_the_plan_of_their_own_run_alone(params, tmp_path, repository):
    before, copy = plan(params, tmp_path / "plan"), tmp_path / "copy"
    shutil.copytree(repository / "pipeline", copy / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW_FILES.items():
        (copy / "pipeline" / name).parent.mkdir(exist_ok=True)
        (copy / "pipeline" / name).write_text(text, encoding="utf-8")
    content = {**PARAMS, "methods": {**PARAMS["methods"], "brand_new": {}}}
    content["runs"] = {**PARAMS["runs"], "new": {"task": "avel", "method": "brand_new", "features": "plain"}}
    with open("new.yaml", "w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(content, stream)
    (tmp_path / "after").mkdir()
    subprocess.run(
        [sys.executable, "-c", WRITE_PLAN, "new.yaml", "after"], env={**os.environ, "PYTHONPATH": str(copy)}, check=True, timeout=120
    )
    after = written_in(tmp_path / "after")
    new = {place: after.pop(place) for place in ("train/new", "evaluate/new")}
    assert after == before
    for content in new.values():
        assert {f"pipeline/{name}" for name in NEW_FILES if not name.endswith("__init__.py")} <= {*content["code"]}
