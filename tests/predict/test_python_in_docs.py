"""The three lines of Python that README.md and docs/predict.md show, on a trained run."""

from __future__ import annotations

import re

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
