"""The stage ``label`` in a project whose features are there, a run that learns from its set, and what `plan` refuses before."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import stage
from pipeline.config import load
from pipeline.datasets.base import Event, Index, Row
from pipeline.datasets.folds import write_folds
from pipeline.datasets.llp import CLASSES as LLP
from pipeline.datasets.writing import write_index
from pipeline.errors import InputProblems
from pipeline.features.store import FeatureStore
from pipeline.labels.teachers import scorer
from pipeline.made_from import index_params, run_params
from pipeline.made_with import write_made_with
from pipeline.synth.plan import CATEGORIES as DEMO
from stages import label
from stages.plan import class_problems
from stages.runs import read_run
from tests.labels.conftest import CLASSES, EVENTS, NAMES, SPLITS, TOLD, written
from tests.wording import each_says, says

SET = {"visual": {"encoder": "efficientnet_lite0"}, "audio": {"encoder": "logmel"}, "finetuned": "none", "dtype": "float32"}
HEARD = {"class_names": "names.csv", "classes": {"Dog": ["Bark"], "Cat": ["Meow"], "Car": ["Engine"]}, "thresholds": 0.5}
LEARNED = {"pseudo_labels": {"audio": "audio_labels", "visual": "visual_soft_labels"}}
PARAMS = {
    "synth": {},
    "dataset": {"kind": "llp", "clips": "data/raw", "annotations": "data/raw", "segments": 4, "segment_seconds": 1.0},
    "media": {},
    "finetune": {},
    "features": {"own": SET, "teachers": SET},
    "imports": {},
    "labels": {"made": {"features": "own", "teachers": "teachers", "audio": HEARD}},
    "methods": {"han": {"motion": None, "width": 16, "feedforward": 16}},
    "train": {},
    "runs": {"learned": {"task": "avvp", "method": "han", "features": "made", "seeds": [0], "overrides": LEARNED}},
    "report": {"title": "T"},
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        Row(clip, split, f"{clip}.mp4", tuple(Event(**event) for event in EVENTS[clip]), labels=tuple(TOLD[clip]))
        for clip, split in SPLITS.items()
    ]
    Path("data/index").mkdir(parents=True)
    write_index(Index(rows, CLASSES, []), Path("data/index"))
    Path("data/folds").mkdir()
    write_folds(None, Path("data/folds"))
    written(Path("data/features/own"), {"visual": [3], "audio": [2]})
    written(Path("data/features/teachers"), {"visual": [5], "audio": [4]}, seed=1)
    Path("names.csv").write_text("display_name\n" + "\n".join(NAMES) + "\n", encoding="utf-8")
    write(PARAMS)
    write_made_with(Path("data/index"), index_params(load(Path("params.yaml"))), {})
    return tmp_path


def write(params) -> None:
    YAML(typ="safe").dump(params, Path("params.yaml"))


def test_the_stage_makes_a_set_that_a_run_learns_from(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["label", "label@made"])
    stage.run("label", label.main, takes="name")
    assert says(capsys.readouterr().out, "visual", "no teacher", "val, labels", "test, the clip's labels")
    scores = json.loads(Path("data/results/labels/made/quality.json").read_text(encoding="utf-8"))
    assert scores["test"]["labels"]["audio"]["f1"] is not None
    made, teachers = FeatureStore("data/features/made"), FeatureStore("data/features/teachers")
    possible = np.array([[name in TOLD[clip] for name in CLASSES] for clip in "abcde"])[:, None] & made.valid(list("abcde"))[..., None]
    np.testing.assert_array_equal(
        made.read("audio_labels", list("abcde")), possible & (teachers.read("audio", list("abcde"))[..., :3] > 0.5)
    )
    inputs, params = read_run("learned")
    data = inputs.training_split()
    assert data.clips == ["a"]
    assert data.stored.read("visual_soft_labels").tolist() == made.read("visual_labels", ["a"]).tolist()
    told = run_params(params, "learned")
    assert told["labels"]["made"]["audio"]["thresholds"] == 0.5
    assert set(told["features"]) == {"own", "teachers"}
    assert json.loads(Path("data/features/made/made_with.json").read_text(encoding="utf-8"))["params"]["labels"] == told["labels"]


def test_the_plan_refuses_what_the_stage_would_refuse_hours_later(project):
    params = copy.deepcopy(PARAMS)
    params["labels"]["made"]["audio"]["classes"]["Dog"] = ["Woof"]
    write(params)
    assert each_says(class_problems(load(Path("params.yaml"))), [("labels.made.audio.classes.Dog", "'Woof'")])
    assert class_problems(load(Path("params.yaml")).model_copy(update={"labels": {}})) == []
    np.savez("texts.npz", names=np.array(["Dog", "Car", "Cat"]), vectors=np.zeros((3, 4), np.float32))
    params = {**PARAMS, "methods": {"han": {"motion": None, "width": 16, "feedforward": 16}, "leap": {"motion": None}}}
    more = {"method": "leap", "overrides": {**LEARNED, "texts": "texts.npz", "text_width": 4}}
    write({**params, "runs": {"learned": {**PARAMS["runs"]["learned"], **more}}})
    assert each_says(class_problems(load(Path("params.yaml"))), [("runs.learned", "texts.npz", "another order", "number 2")])


def test_a_teacher_of_random_weights_is_refused(project):
    audio = {"encoder": "yamnet", "layer": "scores", "weights": "none"}
    write({**PARAMS, "features": {"own": {**SET, "audio": audio}, "teachers": {**SET, "audio": audio}}})
    with pytest.raises(InputProblems) as caught:
        load(Path("params.yaml"))
    assert each_says(caught.value.problems, [("labels.made.audio", "features.teachers.audio.weights", "random")])


def test_the_plan_does_not_ask_the_index_of_another_data_set(project):
    """That of the suite before: `index`, which makes the right one, runs behind `plan`."""
    params = copy.deepcopy(PARAMS)
    params["dataset"]["annotations"] = "data/raw/later"
    params["labels"]["made"]["audio"]["classes"] = {"Horse": ["Bark"]}
    write(params)
    assert class_problems(load(Path("params.yaml"))) == []


def test_the_plan_asks_the_annotations_before_the_index(project):
    """Their classes may be others by now."""
    Path("data/raw").mkdir()
    for name in ("train", "val", "test"):
        Path(f"data/raw/{name}.csv").write_text(f"filename\tevent_labels\n{name}_0_4\tDog\n", encoding="utf-8")
    for name in ("eval_audio", "eval_visual"):
        Path(f"data/raw/{name}.csv").write_text("filename\tonset\toffset\tevent_labels\n", encoding="utf-8")
    Path("data/raw/categories.txt").write_text("Dog\nHorse\n", encoding="utf-8")
    params = copy.deepcopy(PARAMS)
    params["labels"]["made"]["audio"]["classes"] = {"Dog": ["Bark"], "Horse": ["Meow"]}
    write(params)
    assert class_problems(load(Path("params.yaml"))) == []
    params["labels"]["made"]["audio"]["classes"] = PARAMS["labels"]["made"]["audio"]["classes"]
    write(params)
    assert each_says(class_problems(load(Path("params.yaml"))), [("no entry", "Horse"), ("no class", "Cat")])


@pytest.mark.parametrize(("suite", "classes"), [("llp-labels", LLP), ("demo-labels", DEMO), ("realmix-parsing", None)])
def test_the_suites_name_classes_that_yamnet_has(shared, repository, suite, classes):
    params = load(repository / f"suites/{suite}.yaml")
    classes = classes or (shared / "realmix/categories.txt").read_text(encoding="utf-8").split()
    of_yamnet = [(name, entry.audio) for name, entry in params.labels.items() if entry.audio.classes]
    assert of_yamnet
    for name, teacher in of_yamnet:
        placed = teacher.model_copy(update={"class_names": shared / "weights/yamnet_class_map.csv"})
        problems: list[str] = []
        made = scorer(f"labels.{name}.audio", "audio", placed, classes, problems)
        assert problems == []
        assert made is not None
        assert made.without == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"features": "owm"}, ("labels.made.features", "'owm'", "own")),
        ({"teachers": "teacher"}, ("labels.made.teachers", "'teacher'", "teachers")),
        ({"audio": {**HEARD, "texts": "t.npz"}}, ("labels.made.audio", "leave one out")),
        ({"audio": {**HEARD, "class_names": None}}, ("labels.made.audio", "class_names go together")),
        ({"audio": {**HEARD, "thresholds": None}}, ("labels.made.audio", "thresholds")),
        ({"audio": {**HEARD, "thresholds": 1.5}}, ("labels.made.audio", "0..1", "1.5")),
        ({"audio": {**HEARD, "thresholds": "valor"}}, ("labels.made.audio", "valor", "texts")),
        ({"audio": {**HEARD, "weights": "abc"}}, ("labels.made.audio.weights", "eight digits")),
    ],
)
def test_faulty_settings_are_refused(project, changes, parts):
    write({**PARAMS, "labels": {"made": {**PARAMS["labels"]["made"], **changes}}})
    with pytest.raises(InputProblems) as caught:
        load(Path("params.yaml"))
    assert each_says(caught.value.problems, [parts])


def test_a_set_needs_a_name_and_streams_of_its_own(project):
    other = {"file": "x/{id}.npy", "shape": [3]}
    published = {"directory": "p", "visual": other, "audio": other, "others": {"audio_labels": {**other, "training_only": True}}}
    write({**PARAMS, "imports": {"made": published, "p": published}, "labels": {"made": {"features": "p", "teachers": "own"}}})
    with pytest.raises(InputProblems) as caught:
        load(Path("params.yaml"))
    assert each_says(caught.value.problems, [("labels.made", "imports.made"), ("labels.made.features", "p", "'audio_labels'")])


def test_folds_do_not_learn_from_labels_made_for_one_split(project):
    """Validation or training clips of the annotations chose their thresholds, and another fold is tested on these."""
    write({**PARAMS, "dataset": {**PARAMS["dataset"], "folds": {"number": 3}}})
    with pytest.raises(InputProblems) as caught:
        load(Path("params.yaml"))
    assert each_says(caught.value.problems, [("runs.learned.features", "made", "dataset.folds")])


def test_labels_are_no_features_of_a_run(project):
    params = copy.deepcopy(PARAMS)
    params["runs"]["learned"]["overrides"] = {"motion": "audio_labels"}
    write(params)
    with pytest.raises(InputProblems) as caught:
        load(Path("params.yaml"))
    assert each_says(caught.value.problems, [("runs.learned.features", "'audio_labels'", "made", "training clips only")])
