"""What makes a suite's numbers old: its code and its settings, and not what only draws, says or explains."""

from __future__ import annotations

import pytest

from pipeline import config
from pipeline.closure import ROOT
from pipeline.errors import PipelineError
from pipeline.results.suites import MAY_LACK_DATA, SUITES, code_digest, code_files, missing, params_digest, suite_file
from tests.results.conftest import PARAMS, SUITE, write_params
from tests.wording import says

DECIDES = [
    *("pipeline/synth/sounds.py", "pipeline/media/video.py", "pipeline/encoders/logmel.py", "pipeline/datasets/ave.py"),
    *("pipeline/methods/cace_net/method.py", "pipeline/training/loop.py", "pipeline/metrics/bootstrap.py", "pipeline/tasks/avel/shown.py"),
    *("stages/extract.py", "stages/evaluate.py"),
]
DECIDES_NOTHING = [
    *("pipeline/methods/ccln/method.py", "pipeline/encoders/yamnet.py", "pipeline/labels/valor.py", "pipeline/contrastive/loss.py"),
    *("pipeline/report/figures.py", "pipeline/errors.py", "pipeline/results/pages.py", "stages/report.py", "stages/label.py"),
]


@pytest.fixture
def digest(both):
    """The digest of the project's code as it is now, for its suite."""
    params = config.load(both[0] / "suites" / f"{SUITE}.yaml")
    return lambda: code_digest(params, both[0])


def test_code_is_all_that_can_change_a_number_and_nothing_else(both):
    files = {path.as_posix() for path in code_files(config.load(both[0] / "suites" / f"{SUITE}.yaml"), both[0])}
    assert [path for path in DECIDES if path not in files] == []
    assert [path for path in DECIDES_NOTHING if path in files] == []
    assert all((both[0] / path).is_file() for path in DECIDES_NOTHING)


def test_comments_docstrings_and_layout_are_no_code(both, digest):
    before, file = digest(), both[0] / "pipeline" / "training" / "loop.py"
    text = file.read_text(encoding="utf-8")
    function = "def added(x=(1, 2)):\n    return x\n"
    file.write_text(f"{text}\n{function}", encoding="utf-8")
    added = digest()
    assert added != before
    again = 'def added(  # why\n    x=(1, 2),\n):\n    """Return it."""\n\n    return (x)\n'
    file.write_text(f"# A comment.\n{text}\n\n\n{again}", encoding="utf-8")
    assert digest() == added
    file.write_text(f"{text}\n{function.replace('2', '3')}", encoding="utf-8")
    assert digest() != added


def test_settings_are_all_but_comments_machine_and_cache(tmp_path):
    def digest(params, head="# words\n"):
        write_params(tmp_path / "p.yaml", params, head)
        return params_digest(tmp_path / "p.yaml")

    before = digest(PARAMS)
    assert digest({**PARAMS, "machine": {"seeds_at_once": 1}, "cache": {"dir": "/elsewhere"}}, "") == before
    assert digest({**PARAMS, "train": {**PARAMS["train"], "threads": 1}}) != before
    assert digest({**PARAMS, "report": {**PARAMS["report"], "baseline": None}}) != before


def test_an_older_project_without_a_file_that_the_suite_chooses_is_named(both):
    params = config.load(both[0] / "suites" / f"{SUITE}.yaml")
    (both[0] / "pipeline" / "methods" / "cace_net" / "method.py").unlink()
    with pytest.raises(PipelineError, match=r"pipeline/methods/cace_net/method\.py"):
        code_files(params, both[0])


def test_every_suite_can_be_run_here_or_says_what_it_lacks(tmp_path):
    """Without the data beside the project, as in a stranger's checkout."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "suites").symlink_to(ROOT / "suites")
    for suite in SUITES:
        lacking = missing(suite, tmp_path / "project")
        assert bool(lacking) == (suite in MAY_LACK_DATA), suite
        assert all(says(line, "../shared/") for line in lacking)
    with pytest.raises(PipelineError, match="demo-dense"):
        suite_file("demo-dence", ROOT)
