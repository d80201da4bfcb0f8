"""docs/settings.md, and the settings of a run with their sources."""

from __future__ import annotations

import re
import sys

import pytest

from pipeline import __main__ as program
from pipeline import config
from pipeline.commands.settings import flat, resolved
from pipeline.encoders import ENCODERS
from pipeline.methods import METHODS
from pipeline.reference import reference


@pytest.fixture(scope="module")
def page(repository):
    return reference(repository / "dvc.yaml")


def test_the_page_of_settings_is_current(page, repository):
    assert (repository / "docs/settings.md").read_text(encoding="utf-8") == page, "run: python -m pipeline settings --reference"


def test_every_setting_has_a_type_a_default_and_a_meaning(page):
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    assert len(lines) > 300
    assert [line for line in lines if not all(line)] == []
    assert {f"### `{name}`" for name in METHODS.names()} <= {*page.splitlines()}
    by_key = {key.strip("`"): rest for key, *rest in lines if len(rest) == 4}
    assert by_key["train.nonfinite_patience"][:2] == ["whole number, at least 0", "3"]
    assert by_key["cache.dir"][3] == "no stage"
    assert by_key["dataset.clips"][3] == "index, decode"
    assert by_key["features.NAME.dtype"] == ["float16 \\| float32", "float16", "of the stored features", "extract"]
    assert "| `learning_rate" not in page  # nested where it stands


def test_every_key_of_the_suites_is_on_the_page(page, repository):
    of_methods = {name: METHODS.get(name).Config for name in METHODS.names()}
    for path in sorted((repository / "suites").glob("*.yaml")):
        params = config.load(path)
        for block in ("dataset", "media", "train", "report", "machine"):
            for key in getattr(params, block).model_fields_set:
                assert f"| `{block}.{key}` |" in page or f"| `{block}.{key}." in page, (path.name, block, key)
        for name, given in params.methods.items():
            assert {key.split(".")[0] for key in flat(given)} <= {*of_methods[name].model_fields}
    assert all(f"### `{name}`" in page for name in ENCODERS.names() if ENCODERS.get(name).Config.model_fields)


def test_the_settings_of_a_run_say_where_they_come_from(repository, monkeypatch, capsys):
    params = config.load(repository / "suites" / "demo-methods.yaml")
    lines = {key: (value, source) for key, value, source in resolved(params, "cace_net_without_bece")}
    assert lines["method"] == ('"cace_net"', "runs.cace_net_without_bece")
    assert lines["contrast"] == ("false", "runs.cace_net_without_bece.overrides")
    assert lines["recipe.epochs"] == ("24", "methods.cace_net")
    assert lines["recipe.optimizer"] == ('"adam"', "default")
    assert lines["train.threads"] == ("1", "train")
    assert lines["train.compile"] == ("false", "default")
    monkeypatch.setattr(sys, "argv", ["pipeline", "settings", "cace_nt"])
    with pytest.raises(SystemExit):
        program.main()
    assert "'cace_net'" in capsys.readouterr().err
