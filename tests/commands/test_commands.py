"""The commands as a user types them, in one process."""

import hashlib
import subprocess
import sys
import zipfile

import pytest

from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.results.written import Found
from tests.wording import says


def test_unpack(command, tmp_path):
    with zipfile.ZipFile(tmp_path / "dump.zip", "w") as archive:
        archive.writestr("clips/a.mp4", b"clip")
    code, out, _ = command("unpack", "dump.zip", "--into", "data/raw/ave")
    assert code == 0
    assert says(out, "data/raw/ave: 1 files, 4 bytes", "1 archives", "0 hidden")
    assert (tmp_path / "data/raw/ave/clips/a.mp4").read_bytes() == b"clip"
    code, _, err = command("unpack", "dump.zip", "--into", "data/raw/small", "--max-bytes", "3")
    assert (code, "3 bytes" in err) == (2, True)
    code, _, err = command("unpack", "dump.zip", "--into", "data/raw/small", "--max-bytes", "0", "--max-ratio", "-1")
    assert (code, "--max-bytes: " in err, "--max-ratio: " in err) == (2, True, True)


def test_download_needs_yt_dlp_only_for_what_is_not_there(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    (tmp_path / "ids.csv").write_text("id,start,end\n-abcdefghij,0,10\n", encoding="utf-8")
    code, _, err = command("download", "--kind", "csv", "--annotations", "ids.csv", "--into", "clips")
    assert code == 2
    assert err.count("\n") == 1
    assert "pip install 'avel-pipeline[download]'" in err
    (tmp_path / "clips").mkdir(exist_ok=True)
    (tmp_path / "clips" / "-abcdefghij_0_10.mp4").write_bytes(b"x")
    code, out, _ = command("download", "--kind", "csv", "--annotations", "ids.csv", "--into", "clips")
    assert (code, out.startswith("1 clips: 1 ok")) == (0, True)


@pytest.mark.parametrize("published", [True, False])
def test_weights_get_names_path_size_and_hash(command, tmp_path, monkeypatch, published):
    content = bytes(12_345)
    found = hashlib.sha256(content).hexdigest()
    (tmp_path / "copy.pth").write_bytes(content)
    monkeypatch.setitem(KNOWN, "w", KnownWeights("w", "w.pth", "none", sha256=found[:16] if published else ""))
    code, out, _ = command("weights", "get", "w", "--from", "copy.pth")
    assert code == 0
    assert says(out, "models/pretrained/w.pth: ", "12,345 bytes", found)
    assert out.endswith("verified\n") == published


def test_use_copies_a_suite_and_loses_no_settings(command, tmp_path):
    (tmp_path / "suites").mkdir()
    for name in ("demo", "llp"):
        (tmp_path / "suites" / f"{name}.yaml").write_text(f"# {name}\n", encoding="utf-8")
    params = tmp_path / "params.yaml"
    code = command("use", "demo")[0]
    assert (code, params.read_text(encoding="utf-8")) == (0, "# demo\n")
    assert says(command("use", "llp")[1], "suites/llp.yaml", "params.yaml", "suites/demo.yaml")
    code, _, err = command("use", "lp")
    assert (code, "'llp'" in err) == (2, True)
    params.write_text("# llp, my learning rate\n", encoding="utf-8")
    code, _, err = command("use", "demo")
    assert code == 2
    assert "cp params.yaml suites/mine.yaml" in err
    assert params.read_text(encoding="utf-8") == "# llp, my learning rate\n"
    (tmp_path / "suites/mine.yaml").write_bytes(params.read_bytes())  # the advice
    assert command("use", "demo")[0] == 0
    assert command("use", "suites/mine.yaml")[0] == 0
    assert params.read_text(encoding="utf-8") == "# llp, my learning rate\n"
    params.write_text("# committed\n", encoding="utf-8")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert "commit" in command("use", "demo")[1]


def test_results_checks_its_options_before_any_work(command):
    code, out, err = command("results", "demo-dence")
    assert (code, out) == (2, "")
    assert says(err, "'demo-dence'", "demo-dense")
    code, _, err = command("results", "--seeds-at-once", "0")
    assert (code, "--seeds-at-once" in err) == (2, True)
    code, out, err = command("results", "demo", "--collect", "--directory", "nowhere")
    assert (code, out) == (2, "")
    assert says(err, "demo: ", "no clone nowhere/demo")


def test_results_check_fails_where_something_is_untrue(command, monkeypatch):
    for problems, expected in (([], 0), (["docs/results/demo.md was edited"], 2)):
        monkeypatch.setattr("pipeline.results.written.check", lambda problems=problems: Found(["demo: of today"], problems))
        code, out, err = command("results", "--check")
        assert (code, out) == (expected, "demo: of today\n")
        assert all(problem in err for problem in problems)
