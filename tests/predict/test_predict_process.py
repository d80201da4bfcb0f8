"""Predict and report in their own processes: leftovers after a signal, and the effect of a locale."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages import report

CLIPS = Path("data/raw/tiny/clips")
SECONDS = 120  # a test that waits longer has failed


@pytest.fixture
def environment(project, repository, tmp_path):
    (tmp_path / "temporary").mkdir()
    return {**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(tmp_path / "temporary"), "OMP_NUM_THREADS": "1"}


def is_decoding(folder):
    return any(name.endswith(".npz") for _, _, names in os.walk(folder) for name in names)  # passes over folders that vanish meanwhile


def begin(environment, tmp_path):
    """A running prediction of many files, with a window's frames in the temporary folder."""
    clips = sorted(map(str, CLIPS.glob("*.mp4")))
    command = [sys.executable, "-m", "pipeline", "predict", *clips, "--run", "cace", "--overlay", "--out", str(tmp_path / "out")]
    temporary, end = Path(environment["TMPDIR"]), time.monotonic() + SECONDS
    before = set(os.listdir(temporary))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    while not any(is_decoding(temporary / name) for name in {*os.listdir(temporary)} - before if name.startswith("avel-predict-")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def test_sigterm_leaves_nothing_behind_and_what_a_kill_leaves_goes_at_the_next_start(environment, tmp_path):
    temporary = Path(environment["TMPDIR"])
    hold = "import os; from pipeline.scratch import Scratch; kept = Scratch('avel-predict-'); (kept.path / 'window').mkdir()"
    hold += "; os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", hold], env=environment, check=False).returncode == -signal.SIGKILL
    assert len(list(temporary.glob("avel-predict-*"))) == 1
    process = begin(environment, tmp_path)
    assert len(list(temporary.glob("avel-predict-*"))) == 1  # its own
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, "Traceback" in err) == (143, False), err
    assert list(temporary.glob("avel-predict-*")) == []
    folders = list((tmp_path / "out").iterdir()) if (tmp_path / "out").is_dir() else []
    for folder in folders:  # each of them whole, and no half of one beside them
        assert {path.name for path in folder.iterdir()} == {"events.json", "segments.csv", "timeline.png", "attention.png", "overlay.mp4"}
    assert len(out.splitlines()) >= len(folders)


def test_a_report_in_a_locale_that_is_not_utf8_has_the_same_bytes(project, environment, edit_params):
    edit_params(lambda params: params["runs"].pop("later"))  # a report that lacks a run does not end with 0
    directory = Path("data/results/report")
    report.main()
    expected = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-m", "stages.report"], env={**environment, **locale}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Test, mean \\xb1 std" in done.stdout  # what ASCII cannot say, as its code
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()} == expected
    assert "±" in expected["table.md"].decode("utf-8")
