"""The lines of Python that README.md, docs/predict.md and docs/python.md show, on a trained run."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

import pipeline
from pipeline.predict import load_run

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_events_of_a_film_are_printed(project, repository, capsys):
    run = load_run("cace")
    answers = ((path, run.predict(path).events) for path in sorted((project / "data/raw/tiny/clips").iterdir()))
    film, events = next((path, events) for path, events in answers if events)
    assert all(re.fullmatch(r"\d+\.\d-\d+\.\d s  .+  \d\.\d\d \([a-z-]+\)", str(event)) for event in events)
    capsys.readouterr()
    for page in ("README.md", "docs/predict.md"):
        [block] = [block for block in BLOCK.findall((repository / page).read_text(encoding="utf-8")) if "load_run" in block]
        assert '"cace_net"' in block
        assert '"holiday.mp4"' in block
        exec(compile(block.replace('"cace_net"', '"cace"').replace('"holiday.mp4"', repr(str(film))), page, "exec"), {})
        assert capsys.readouterr().out.splitlines() == [str(event) for event in events], page


def test_the_page_for_python_runs_as_printed(project, repository, capsys):
    """Its blocks in their order, in one session, with the names of this project."""
    film = sorted((project / "data/raw/tiny/clips").iterdir())[0]
    page = (repository / "docs/python.md").read_text(encoding="utf-8")
    session: dict = {}
    for block in BLOCK.findall(page):
        ours = block.replace("lite0_logmel", "first").replace("holiday.mp4", str(film))
        if "create_method" not in ours:
            ours = ours.replace('cace_net", 0', 'cace", 1').replace("cace_net", "cace")
        exec(compile(ours, "docs/python.md", "exec"), session)
    out = capsys.readouterr().out
    for modality in ("visual", "audio"):  # of the first clip, read from the store and computed from its file
        assert session["found"].features[modality].tobytes() == session[modality][0].numpy().tobytes()
    assert session["visual"].shape[:2] == session["audio"].shape[:2] == session["inside"].shape
    assert (
        session["metrics"]
        == json.loads((project / "data/results/runs/cace/metrics.json").read_text(encoding="utf-8"))["seeds"]["test"]["1"]
    )
    assert "66.66" in out
    assert out.splitlines()[-1] == "torch.Size([2, 10, 29])"


def test_import_is_cheap_and_every_public_name_is_there():
    lines = "import sys, pipeline; print({'torch', 'numpy', 'pandas', 'av'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", lines], capture_output=True, encoding="utf-8", check=True).stdout == "set()\n"
    assert set(pipeline.__all__) <= set(dir(pipeline))
    assert all(callable(getattr(pipeline, name)) or name in ("METHODS", "TASKS") for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing
