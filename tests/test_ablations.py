"""Ablation suites as DVC experiments: what each is given, what is queued again, and what a table says of changed settings."""

import subprocess
from types import SimpleNamespace

import pytest

from pipeline import ablations, config
from pipeline.ablations import Ablations, departures_from, one_run
from pipeline.commands.options import key_values
from pipeline.errors import InputProblems, PipelineError
from pipeline.experiments import Experiment, Family, flat
from pipeline.report.published import read_published_file
from pipeline.yaml_files import read_yaml
from tests.wording import each_says, says

PRINTED = {"ave-ablations": ("cace_net", {"1", "2", "S1", "S2", "S4(a)", "S4(b)"}), "llp-ablations": ("coleaf", {"2", "4"})}


@pytest.fixture
def suite(repository):
    return lambda name: repository / "suites" / f"{name}.yaml"


@pytest.fixture
def queued(tmp_path, monkeypatch):
    """Stand in for DVC: (queue these ablations, the params.yaml that each experiment took); `known` and `refuse` steer it."""
    taken: dict[str, str] = {}
    steer = SimpleNamespace(known=[], refuse=None)
    baseline = Experiment("main", "baseline", {}, {}, "a" * 40)

    def dvc(command, cwd, **_):
        *_, name = command
        assert "--queue" in command
        if name == steer.refuse:
            return SimpleNamespace(returncode=1, stderr="DVC says no", stdout="")
        taken[name] = (cwd / "params.yaml").read_text(encoding="utf-8")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(ablations, "read_experiments", lambda root, commits: [Family(baseline, steer.known)])
    monkeypatch.setattr(ablations, "subprocess", SimpleNamespace(run=dvc, CompletedProcess=subprocess.CompletedProcess))
    (tmp_path / "params.yaml").write_text("mine: true\n", encoding="utf-8")
    return lambda chosen: list(chosen.queue(tmp_path)), taken, steer


@pytest.mark.parametrize("name", PRINTED)
def test_each_experiment_holds_one_run_whose_settings_are_in_order(name, suite, tmp_path):
    content, whole = read_yaml(suite(name)), config.load(suite(name))
    for run in list(content["runs"])[::10]:
        path = tmp_path / f"{run}.yaml"
        path.write_text(ablations._dumped(one_run(content, run)), encoding="utf-8")
        params = config.load(path)
        assert params.runs == {run: whole.runs[run]}
        assert params.method_settings(run) == whole.method_settings(run)
        assert (params.report.baseline, set(params.report.papers) - {run}) == (None, set())
    assert content == read_yaml(suite(name))


@pytest.mark.parametrize("name", PRINTED)
def test_every_row_of_the_papers_ablations_has_a_run(name, suite):
    paper, numbers = PRINTED[name]
    named = set(read_yaml(suite(name))["report"]["papers"].values())
    tables = [table for table in read_published_file().tables if table.paper == paper and table.table.split(" (")[0] in numbers]
    tables = [table for table in tables if not next(iter(table.columns)).startswith("rate/")]  # shares of CMPAE's decisions
    assert {table.table.split(" (")[0] for table in tables} == numbers
    assert [row.key for table in tables for row in table.rows if not {row.key, row.same_as} & named] == []


def test_settings_and_seeds_are_changed_for_every_run_and_checked_before_anything_is_queued(suite):
    changes = key_values(["methods.cace_net.recipe.epochs=2", "imports.vgg19_vggish.directory=data/made"])
    chosen = Ablations.of(suite("ave-ablations"), "small", ["mixup", "cace_net"], changes, seeds=[7])
    assert chosen.experiment("mixup") == "small-mixup"
    params = dict(flat(chosen.params("mixup")))
    assert (params["methods.cace_net.recipe.epochs"], params["imports.vgg19_vggish.directory"]) == (2, "data/made")
    assert (params["runs.mixup.seeds"], params["runs.mixup.overrides.augmentation"]) == ([7], "mixup")
    with pytest.raises(InputProblems) as caught:
        Ablations.of(suite("ave-ablations"), changes={"methods.cace_net.recipe.epoch": 2, "dataset.segment": 5})
    assert each_says(sorted(caught.value.problems), [["dataset.segment", "segments"], ["recipe.epoch", "epochs"]])
    with pytest.raises(InputProblems, match=r"'mixap'.*mixup"):
        Ablations.of(suite("ave-ablations"), runs=["mixap"])
    with pytest.raises(InputProblems, match=r"train\.device\.kind: device is a value"):
        Ablations.of(suite("ave-ablations"), changes={"train.device.kind": "cpu"})


def test_what_is_there_is_not_queued_again_and_the_users_params_come_back(queued, suite, tmp_path):
    queue, taken, steer = queued
    chosen = Ablations.of(suite("ave-ablations"), runs=["mixup", "no_guidance", "cace_net"])
    there = dict(flat(chosen.params("no_guidance")))
    steer.known = [
        Experiment("ave-ablations-no_guidance", "running", there, {}, "b" * 40),
        Experiment("ave-ablations-cace_net", "failed", {}, {}, "c" * 40),
        Experiment("other", "done", {"methods.x": 1}, {}, "d" * 40),
    ]
    said = queue(chosen)
    assert said[:2] == ["ave-ablations-mixup: queued", "ave-ablations-no_guidance: running"]
    assert says(said[2], "ave-ablations-cace_net: failed", "dvc queue remove ave-ablations-cace_net")
    assert set(taken) == {"ave-ablations-mixup"}
    assert "no_guidance" not in taken["ave-ablations-mixup"]
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "mine: true\n"
    steer.known, steer.refuse = [], "ave-ablations-mixup"
    with pytest.raises(PipelineError, match=r"ave-ablations-mixup.*DVC says no"):
        queue(chosen)
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "mine: true\n"


def test_experiments_of_these_names_with_other_settings_are_named(queued, suite):
    queue, taken, steer = queued
    chosen = Ablations.of(suite("ave-ablations"), runs=["mixup", "cace_net"])
    mixup, whole = (dict(flat(chosen.params(run))) for run in chosen.runs)
    steer.known = [
        Experiment("ave-ablations-mixup", "queued", {**mixup, "runs.mixup.seeds": [0]}, {}, "b" * 40),
        Experiment("ave-ablations-cace_net", "done", {**whole, "methods.cace_net.psi": 0.5}, {}, "c" * 40),
    ]
    with pytest.raises(InputProblems) as caught:
        queue(chosen)
    assert each_says(
        caught.value.problems,
        [
            ["ave-ablations-mixup", "runs.mixup.seeds", "--name", "dvc queue remove ave-ablations-mixup"],
            ["ave-ablations-cace_net", "methods.cace_net.psi", "dvc exp remove ave-ablations-cace_net"],
        ],
    )
    assert taken == {}


def test_a_table_names_what_differs_from_the_suite(suite):
    content = read_yaml(suite("ave-ablations"))
    as_it_is = one_run(content, "mixup")
    assert list(departures_from(as_it_is, as_it_is, "mixup")) == []
    changes = {"methods.cace_net.psi": 0.2, "cache.dir": "elsewhere"}
    changed = Ablations.of(suite("ave-ablations"), changes=changes, seeds=[1]).params("mixup")
    assert list(departures_from(as_it_is, changed, "mixup")) == [
        "runs.RUN.seeds [1] ([0, 1, 2, 3, 4])", "methods.cace_net.psi 0.2 (not set)",
    ]  # fmt: skip


def test_the_command_refuses_what_would_be_lost_or_have_no_effect(suite, tmp_path, monkeypatch, capsys):
    from pipeline import __main__ as program

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("of: mine\n", encoding="utf-8")
    for arguments, words in (
        ([str(suite("ave-ablations"))], ["params.yaml", "lost", "suites/mine.yaml"]),
        ([str(suite("ave-ablations")), "--table", "--seeds", "1"], ["--table", "--seeds"]),
    ):
        monkeypatch.setattr("sys.argv", ["pipeline", "ablations", *arguments])
        with pytest.raises(SystemExit):
            program.main()
        assert says(capsys.readouterr().err, *words)
