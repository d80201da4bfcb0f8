"""Long work without a terminal prints a line now and then, with its rate and the time left."""

import pytest

from pipeline import progress
from pipeline.progress import Progress
from tests.wording import says


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_says_rate_and_time_left(clock, capsys):
    taken = []
    with Progress(range(300), desc="decode", unit="clip", total=300) as bar:
        for number in bar:
            taken.append(number)
            clock[0] += 0.5
    assert taken == list(range(300))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # after 30, 90 and 150 s
    assert says(lines[0], "decode: 60 of 300 clips", "2 clips/s", "2 min 00 s left")
    assert says(lines[-1], "300 of 300")


def test_what_was_done_before_is_no_speed_and_hidden_progress_says_nothing(clock, capsys):
    with Progress(desc="tuned", unit="clip", total=1000, initial=900) as bar, Progress(desc="other", unit="clip", shown=False) as hidden:
        clock[0] = 50.0
        bar.update(50)
        hidden.update(50)
    (line,) = capsys.readouterr().err.splitlines()
    assert says(line, "tuned: 950 of 1,000 clips", "1 clips/s", "50.0 s left")
