"""DVC experiments as one table, from documents as `dvc exp show --json` prints them."""

import json
from types import SimpleNamespace

import pytest

from pipeline import experiments
from pipeline.errors import PipelineError
from pipeline.experiments import experiments_table, families_of, flat, read_experiments
from pipeline.report.formats import markdown

RUNS = {"avel": {"accuracy": 80.0, "std": 1.5}, "cace_net": {"accuracy": 82.0, "std": None}}


def revision(rev, params, metrics, name=None, error=None):
    data = {"rev": rev, "params": {"params.yaml": {"data": params}}, "metrics": {"data/results/report/metrics.json": {"data": metrics}}}
    return {"rev": rev, "name": name, "data": None if error else data, "error": error and {"msg": error}}


def experiment(name, params, metrics, state=None, error=None):
    return {
        "name": name,
        "revs": [revision(f"{name}0123456789", params, metrics, name, error)],
        "executor": state and {"state": state, "name": None, "local": None},
    }


def params(contrast, epochs=20, title="x"):
    return {"methods": {"cace_net": {"lambda_contrast": contrast, "recipe": {"epochs": epochs}}}, "report": {"title": title}}


@pytest.fixture
def document():
    less = {"avel": {"accuracy": 80.0, "std": 1.5}, "cace_net": {"accuracy": 83.25, "std": 0.5}}
    return [
        revision("workspace", params(0.6), RUNS),
        {
            **revision("a" * 40, params(0.6), RUNS, "main"),
            "experiments": [
                experiment("abl-more", params(0.8, epochs=40), {}, "queued"),
                experiment("abl-less", params(0.4), less),
                experiment("abl-fail", params(9.0), None, error="it broke"),
                experiment("abl-now", params(0.5), RUNS, "running"),
                experiment("other", params(0.1, title="y"), RUNS, "success"),
            ],
        },
        {**revision("b" * 40, params(0.7), {"avel": {"accuracy": 79.0, "std": 1.0}}), "experiments": None},
    ]


def test_a_pattern_gives_one_table_with_what_changed_and_what_moved(document):
    table = experiments_table(families_of(document), "abl-*")
    assert table.heads == [
        "Experiment", "State", "methods.cace_net.lambda_contrast", "methods.cace_net.recipe.epochs", "cace_net accuracy",
    ]  # fmt: skip
    assert [line[:2] for line in table.lines] == [
        ["main", "baseline"], ["abl-fail", "failed"], ["abl-less", "done"], ["abl-more", "queued"], ["abl-now", "running"],
    ]  # fmt: skip
    by_name = {line[0]: line[2:] for line in table.lines}
    assert by_name["main"] == ["0.6", "20", "82.00"]
    assert by_name["abl-less"] == ["0.4", "20", "83.25 ± 0.50 (+1.25)"]
    assert by_name["abl-more"] == ["0.8", "40", "–"]
    assert by_name["abl-now"] == ["0.5", "20", "–"]  # what a running one shows is its baseline's
    assert by_name["abl-fail"] == ["–", "–", "–"]
    assert markdown(table).splitlines()[1] == "|---|---|---|---|---|"


def test_runs_that_nothing_moved_are_shown_where_all_are_alike(document):
    table = experiments_table(families_of(document), "other")
    assert table.heads == ["Experiment", "State", "methods.cace_net.lambda_contrast", "report.title", "avel accuracy", "cace_net accuracy"]
    assert table.lines[1][-2:] == ["80.00 ± 1.50 (+0.00)", "82.00 (+0.00)"]


def test_a_pattern_without_a_match_names_what_there_is(document):
    with pytest.raises(PipelineError, match=r"'nix\*'.*abl-fail, abl-less, abl-more, abl-now, other"):
        experiments_table(families_of(document), "nix*")
    with pytest.raises(PipelineError, match="none"):
        experiments_table([], "*")


def test_outside_a_project_dvc_says_why(tmp_path):
    with pytest.raises(PipelineError, match="dvc exp show"):
        read_experiments(tmp_path, 1)


def test_an_experiment_that_ends_while_dvc_looks_is_looked_at_again(tmp_path, monkeypatch, document):
    gone = SimpleNamespace(returncode=1, stderr="ERROR: directory '/p/.dvc/tmp/exps/tmp1/.dvc' does not exist", stdout="")
    answers = [gone, gone, SimpleNamespace(returncode=0, stderr="", stdout=json.dumps(document))]
    monkeypatch.setattr(experiments, "subprocess", SimpleNamespace(run=lambda *_, **__: answers.pop(0)))
    assert read_experiments(tmp_path, 1) == families_of(document)
    answers += [gone] * 5
    with pytest.raises(PipelineError, match="tmp1"):
        read_experiments(tmp_path, 1)
    assert answers == []


def test_nested_params_are_named_by_their_path():
    assert dict(flat({"a": {"b": 1, "c": {"d": [1]}}, "e": {}})) == {"a.b": 1, "a.c.d": [1], "e": {}}
