import subprocess
import sys

import pytest

from pipeline.errors import InputProblems, PipelineError
from pipeline.stage import only_one, publishing, run


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.fault(26)
def test_a_directory_is_published_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")
    with publishing(target) as directory:
        (directory / "new").write_text("new", encoding="utf-8")
        assert (target / "old").read_text(encoding="utf-8") == "old"
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_publishes_nothing(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), publishing(target) as directory:
        (directory / "half").write_text("half", encoding="utf-8")
        raise RuntimeError
    assert not target.exists()


@pytest.mark.parametrize(("first", "second", "expected"), [("a", "a", ["done", "new"]), ("a", "b", ["new"]), (None, None, ["new"])])
def test_work_of_an_interrupted_run_is_found_again_by_the_same_fingerprint_alone(tmp_path, first, second, expected):
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), publishing(target, resume=first) as directory:
        (directory / "done").write_text("", encoding="utf-8")
        raise RuntimeError
    with publishing(target, resume=second) as directory:
        (directory / "new").write_text("", encoding="utf-8")
    assert sorted(path.name for path in target.iterdir()) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.fault(21, 24)
def test_a_second_start_beside_a_running_stage_is_refused(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", "from pipeline.stage import only_one\nwith only_one('train-a'):\n  print('held', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, encoding="utf-8", env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(PipelineError, match="train-a is already running"), only_one("train-a"):
        pass
    holder.kill()  # the lock must not outlive its holder
    holder.wait()
    with only_one("train-a"):
        pass


def test_errors_for_the_user_are_told_without_a_traceback(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stage"])

    def body() -> None:
        raise InputProblems("params.yaml", ["media.workres: unknown key", "runs.a: unknown method"])

    with pytest.raises(SystemExit) as stop:
        run("index", body)
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("index: params.yaml: 2 problems\n")
    assert "media.workres" in message
    assert "runs.a" in message
    assert "Traceback" not in message


def test_a_stage_called_with_the_wrong_number_of_arguments_says_how(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as stop:
        run("train", print, takes="run")
    assert stop.value.code == 2
    assert "usage: python -m stages.train RUN" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../precious", "-x", "a b", "a;touch x", ""])
def test_an_argument_that_is_no_name_is_refused_before_it_names_anything(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", ["stage", name])
    with pytest.raises(SystemExit) as caught:
        run("train", lambda _: pytest.fail("the stage ran"), takes="run")
    assert caught.value.code == 1
    assert repr(name) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
