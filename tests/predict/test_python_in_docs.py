"""The three lines of Python that README.md and docs/predict.md show, on a trained run."""

from __future__ import annotations

import re

import pytest

from pipeline.predict import load_run

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/predict.md"])
def test_the_events_of_a_film_are_printed(page, project, repository, capsys):
    [block] = [block for block in BLOCK.findall((repository / page).read_text(encoding="utf-8")) if "load_run" in block]
    film = next(path for path in sorted((project / "data/raw/tiny/clips").iterdir()) if load_run("cace").predict(path).events)
    assert '"cace_net"' in block
    assert '"holiday.mp4"' in block
    capsys.readouterr()
    exec(compile(block.replace('"cace_net"', '"cace"').replace('"holiday.mp4"', repr(str(film))), page, "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(event) for event in load_run("cace").predict(film).events]
    assert all(re.fullmatch(r"\d+\.\d-\d+\.\d s  .+  \d\.\d\d \([a-z-]+\)", line) for line in printed)
