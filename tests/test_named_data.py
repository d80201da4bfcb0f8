from pathlib import Path

import pytest

from pipeline import config
from pipeline.named_data import missing_data


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
