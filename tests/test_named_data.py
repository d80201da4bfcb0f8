from pathlib import Path

import pytest

from pipeline import config
from pipeline.named_data import foreign_outs, missing_data


@pytest.fixture
def suite(repository):
    return lambda name: config.load(repository / "suites" / f"{name}.yaml")


def settings_of(problems):
    return [problem.split(": ")[0] for problem in problems]


@pytest.mark.fault(40)
def test_every_setting_that_names_what_is_not_there_is_told_with_its_path(suite, tmp_path):
    params = suite("llp")
    problems = missing_data(params, tmp_path)
    assert settings_of(problems) == ["dataset.annotations", *(f"imports.{name}.directory" for name in params.imports)]
    assert "data/published/llp/annotations" in problems[0]
    for named in (params.dataset.annotations, *(entry.directory for entry in params.imports.values())):
        (tmp_path / named).mkdir(parents=True, exist_ok=True)
    assert missing_data(params, tmp_path) == []


def test_what_a_stage_makes_is_not_missing(suite, tmp_path):
    demo = suite("demo")
    assert missing_data(demo, tmp_path) == []
    dataset = demo.dataset.model_copy(update={"clips": Path("data/raw/demo/clipz"), "annotations": Path("data/raw/demo/spans.csv")})
    assert settings_of(missing_data(demo.model_copy(update={"dataset": dataset}), tmp_path)) == ["dataset.clips"]
    elsewhere = demo.model_copy(update={"synth": {"other": demo.synth["demo"]}})
    assert settings_of(missing_data(elsewhere, tmp_path)) == ["dataset.clips", "dataset.annotations"]


def test_an_absolute_path_is_looked_at_where_it_is(suite, tmp_path):
    params = suite("demo")
    clips = tmp_path / "elsewhere" / "clips"
    dataset = params.dataset.model_copy(update={"clips": clips, "annotations": clips})
    params = params.model_copy(update={"dataset": dataset})
    assert settings_of(missing_data(params, Path("/nowhere"))) == ["dataset.clips", "dataset.annotations"]
    clips.mkdir(parents=True)
    assert missing_data(params, Path("/nowhere")) == []


def test_files_of_the_users_own_where_a_stage_would_write_are_told_before_dvc_removes_them(suite, tmp_path):
    demo = suite("demo")
    assert foreign_outs(demo, tmp_path) == []
    own = {
        "synth.demo": "data/raw/demo/holiday.mp4",
        "finetune.lite0": "models/encoders/lite0/mine.pth",
        "features.lite0_logmel": "data/features/lite0_logmel/mine.npy",
        "runs.cace_net": "models/runs/cace_net/mine.pth",
        "runs.avel": "data/results/runs/avel/thesis.tex",
    }
    for path in (*own.values(), "data/raw/ave/clip.mp4"):  # no entry is called ave
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("mine", encoding="utf-8")
    problems = foreign_outs(demo, tmp_path)
    assert sorted(settings_of(problems)) == sorted(own)
    for problem in problems:
        assert Path(own[problem.split(": ")[0]]).name in problem
    (tmp_path / "data/raw/demo/spans.csv").write_text("made by the stage", encoding="utf-8")
    (tmp_path / "dvc.lock").write_text("  outs:\n  - path: models/encoders/lite0\n    hash: md5\n", encoding="utf-8")
    assert sorted(settings_of(foreign_outs(demo, tmp_path))) == sorted({*own} - {"synth.demo", "finetune.lite0"})
