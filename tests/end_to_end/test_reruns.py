"""After a change exactly what depends on it runs again, by the project's own dvc.yaml and real `plan`; stand_in.py is all other stages.

A number of one method, and nothing at all: test_dag.py.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from tiny_project import STAGES, TINY, Project

STAND_IN = Path(__file__).with_name("stand_in.py")


class Outline(Project):
    """The tiny project with commands that take no time; the files, settings and code that they depend on are those of dvc.yaml."""

    def write_params(self, params: dict) -> None:
        (self.root / "params.yaml").write_text(json.dumps(params), encoding="utf-8")

    def replace_commands(self) -> None:
        yaml = YAML()
        with open(self.root / "dvc.yaml", encoding="utf-8") as stream:
            document = yaml.load(stream)
        for name, stage in document["stages"].items():
            body = stage.get("do", stage)
            if name != "plan":
                data = [path for path in body["deps"] if not path.startswith(("pipeline", "stages"))]
                words = [*body["outs"], *body.get("metrics", []), "--", *data, "--", *body["params"]]
                body["cmd"] = f"{sys.executable} -IS {STAND_IN} {' '.join(words)}"
        with open(self.root / "dvc.yaml", "w", encoding="utf-8") as stream:
            yaml.dump(document, stream)

    def ran(self) -> set[str]:
        return self.repro()[0]


@pytest.fixture(scope="module")
def outline(tmp_path_factory, repository, programs) -> Outline:
    project = Outline(tmp_path_factory.mktemp("outline"), repository, programs)
    project.replace_commands()
    project.write_params(TINY)
    project.commit()
    assert project.ran() == STAGES
    return project


@pytest.fixture
def project(outline, tmp_path) -> Outline:
    outline.copy_to(tmp_path / "outline")
    return Outline(tmp_path / "outline", outline.repository, outline.programs)


def changed(**blocks):
    params = copy.deepcopy(TINY)
    for path, value in blocks.items():
        *keys, last = path.split("__")
        block = params
        for key in keys:
            block = block[key]
        block[last] = value
    return params


def test_clips_that_move_rerun_no_training(project):
    """`index` and `decode` run and give what they gave, as tests/datasets/test_index_files.py checks."""
    yaml = YAML()
    document = yaml.load(project.root / "dvc.yaml")
    for name in ("index", "decode"):
        commands = (f"mkdir -p {out} && echo same > {out}/same" for out in document["stages"][name]["outs"])
        document["stages"][name]["cmd"] = " && ".join(commands)
    with open(project.root / "dvc.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
    assert {"index", "decode"} <= project.ran()
    shutil.copytree(project.root / "data/raw/tiny/clips", project.root / "moved")
    project.write_params(changed(dataset__clips="moved"))
    assert project.ran() == {"plan", "index", "decode"}
    project.write_params(changed(dataset__clips="moved", media__keep="verdicts"))  # nor does what is stored of them
    assert project.ran() == {"index", "decode"}


def test_other_folds_rerun_what_is_trained_and_no_decoding_and_no_features(project, tmp_path):
    """`index` gives the same index; the folds are an out of their own."""
    yaml = YAML()
    document = yaml.load(project.root / "dvc.yaml")
    words = f"data/folds -- {' '.join(path for path in document['stages']['index']['deps'] if path.startswith('data/plan'))} -- dataset"
    same = "mkdir -p data/index && echo same > data/index/same"
    document["stages"]["index"]["cmd"] = f"{same} && {sys.executable} -IS {STAND_IN} {words}"
    with open(project.root / "dvc.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
    project.ran()
    trained = {f"{stage}@{run}" for stage in ("train", "evaluate") for run in TINY["runs"]}
    by = tmp_path / "by.csv"
    by.write_text("clip,source\n", encoding="utf-8")
    for folds in ({"number": 3}, {"number": 3, "by": str(by)}):
        project.write_params(changed(dataset__folds=folds))
        assert project.ran() == {"plan", "index", *trained, "report"}, folds
    by.write_text("clip,source\nclip,film\n", encoding="utf-8")
    assert project.ran() == {"plan", "index", *trained, "report"}
    by.unlink()
    project.write_params(changed(dataset__folds={"number": 3, "by": str(by)}, report__title="T"))
    assert "dataset.folds.by" in project.run("dvc", "repro", code=255)


CACE, SECOND = {"train@cace_first", "evaluate@cace_first"}, {"train@avel_second", "evaluate@avel_second"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param(
            changed(features__second__visual__image_size=48), {"plan", "extract@second", *SECOND, "report"}, id="a setting of one encoder"
        ),
        pytest.param(changed(runs__avel_second__seeds=[0, 1, 2]), {"plan", *SECOND, "report"}, id="a new seed"),
        pytest.param(changed(synth__tiny__train_clips=9), STAGES, id="one more clip"),
    ],
)
def test_a_change_of_params_reruns(project, params, expected):
    project.write_params(params)
    assert project.ran() == expected


def test_a_new_title_reruns_the_report_and_what_says_how_work_is_done_nothing(project):
    project.write_params({**changed(report__title="Other", cache__dir="/another/place"), "machine": {"seeds_at_once": 2}})
    assert project.ran() == {"report"}


def test_a_layer_of_one_method_reruns_its_runs_alone(project):
    project.edit("pipeline/methods/cace_net/spiking.py")
    assert project.ran() == {"plan", *CACE, "report"}


def test_code_that_moves_no_weight_and_no_feature_here_reruns_the_report_alone(project):
    """The bootstrap, a method of no run, an encoder of no feature set, a new encoder, a new method with a layer of its own."""
    for room, name in {"metrics": "bootstrap", "encoders": "vggish", "methods": "han"}.items():
        project.edit(f"pipeline/{room}/{name}.py")
    for path in ("encoders/__init__.py", "encoders/known_weights.py", "methods/__init__.py"):
        project.edit(f"pipeline/{path}")
    (project.root / "pipeline/encoders/brand_new.py").write_text("X = 1\n", encoding="utf-8")
    (project.root / "pipeline/layers/brand_new.py").write_text("X = 1\n", encoding="utf-8")
    (project.root / "pipeline/methods/brand_new.py").write_text("from pipeline.layers.brand_new import X\n", encoding="utf-8")
    assert project.ran() == {"plan", "report"}


def test_outs_can_be_said_to_be_those_of_new_code(project):
    """As docs/how-it-works.md has it, for a change that moves no number."""
    project.edit("pipeline/methods/cace_net/spiking.py")
    project.run("dvc", "repro", "-q", "plan")
    project.run("dvc", "commit", "-q", "-f")
    assert project.ran() == set()


def test_an_encoder_s_code_reruns_the_extractions_that_use_it(project):
    project.edit("pipeline/encoders/logmel.py")
    assert project.ran() == {"plan", "extract@first", "extract@second"}  # which give the bytes they gave


def test_a_threshold_makes_labels_again_and_reruns_the_runs_that_learn_from_them(project):
    """Features, teachers' outputs and other runs stay."""
    (project.root / "names.csv").write_text("display_name\nBark\n", encoding="utf-8")
    teacher = {"class_names": "names.csv", "classes": {"Dog": ["Bark"]}, "thresholds": 0.1}
    params = changed(labels__made={"features": "first", "teachers": "second", "audio": teacher})
    params["runs"]["learned"] = {**params["runs"]["avel_first"], "features": "made"}
    project.write_params(params)
    after = {"label@made", "train@learned", "evaluate@learned", "report"}
    assert project.ran() == {"plan", *after}
    params["labels"]["made"]["audio"] = {**teacher, "thresholds": 0.2}
    project.write_params(params)
    assert project.ran() == {"plan", *after}


def test_weights_of_a_path_are_data(project, tmp_path):
    weights = tmp_path / "own.safetensors"
    save_file({"x": np.zeros(3, np.float32)}, weights)
    project.write_params(changed(features__second__visual__weights=str(weights)))
    after = {"plan", "extract@second", *SECOND, "report"}
    assert project.ran() == after
    assert project.ran() == set()
    save_file({"x": np.ones(3, np.float32)}, weights)
    assert project.ran() == after
    weights.unlink()
    project.write_params(changed(features__second__visual__weights=str(weights), report__title="T"))
    assert "features.second.visual.weights" in project.run("dvc", "repro", code=255)
