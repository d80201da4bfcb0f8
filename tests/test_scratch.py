import gc
import subprocess
import sys

import pytest

from pipeline.scratch import ALIVE, Scratch

HOLDER = "import sys; from pathlib import Path; from pipeline.scratch import Scratch; kept = Scratch('work-', Path(sys.argv[1]));"


def start(script, directory):
    """A process that has a scratch directory in ``directory`` once it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HOLDER} print('ready', flush=True); {script}", str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_scratch_directory_goes_with_its_block_its_object_and_its_process(tmp_path):
    with Scratch("work-", tmp_path) as work:
        (work / "sub").mkdir()
        (work / "sub" / "file").write_text("x", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []
    kept = Scratch("work-", tmp_path)
    assert kept.path.is_dir()
    del kept
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    for script in ("pass", "sys.exit(143)", "raise KeyError"):
        process = start(script, tmp_path)
        process.communicate()
        assert list(tmp_path.iterdir()) == [], script


def test_what_a_killed_process_left_is_removed_at_the_next_start_and_what_another_one_uses_is_not(tmp_path):
    killed, living = (start("input()", tmp_path) for _ in range(2))
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "work-of-another-kind").mkdir()  # nobody's scratch directory: it has no lock
    (tmp_path / "other-name").mkdir()
    (tmp_path / "other-name" / ALIVE).write_text("", encoding="utf-8")
    with Scratch("work-", tmp_path) as mine:
        left = {path.name for path in tmp_path.iterdir()}
        assert {mine.name, "work-of-another-kind", "other-name"} < left
        assert len(left) == 4
        assert living.poll() is None
    living.communicate("\n")
    assert {path.name for path in tmp_path.iterdir()} == {"work-of-another-kind", "other-name"}


def test_a_link_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / ALIVE).write_text("", encoding="utf-8")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "work-link").symlink_to(target)
    with Scratch("work-", tmp_path / "place"):
        pass
    assert (target / ALIVE).is_file()


def test_a_place_that_is_not_there_is_an_error_with_its_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Scratch("work-", tmp_path / "nowhere")
