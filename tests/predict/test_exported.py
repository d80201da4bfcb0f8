"""A run exported to one file predicts where there is no project, with the same answers."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from pipeline import Batch, load_seed
from pipeline.__main__ import main
from pipeline.encoders.known_weights import KNOWN
from pipeline.encoders.weights import find
from pipeline.machine import project_version
from pipeline.predict import load_exported
from pipeline.sealed import sealed, unsealed
from pipeline.tensors import load_tensors, save_tensors
from tests.wording import says

CLIPS = Path("data/raw/tiny/clips")


@pytest.fixture
def command(project, monkeypatch, capsys):
    """``python -m pipeline ARGUMENTS`` in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def exported(command, tmp_path):
    path = tmp_path / "cace.avel"
    code, out, _ = command("export", "cace", "--out", path)
    assert code == 0
    assert says(out, str(path), "1 seed", "MiB")
    return path


def answers(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("events.json", "segments.csv")}


def test_it_predicts_the_same_in_an_empty_directory(project, command, exported, tmp_path, monkeypatch):
    film = (project / sorted(CLIPS.iterdir())[0]).absolute()
    assert command("predict", film, "--run", "cace", "--out", tmp_path / "here")[0] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    code, _, err = command("predict", film, "--model", exported, "--out", "there")
    assert (code, err) == (0, "")
    assert answers(elsewhere / "there" / film.stem) == answers(tmp_path / "here" / film.stem)
    assert json.loads(answers(tmp_path / "here" / film.stem)["events.json"])["events"]
    assert sorted(os.listdir(elsewhere)) == ["there"]


def test_its_temporary_folders_go_at_the_end_of_a_block_though_something_holds_it(exported, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with load_exported(exported) as held:
        assert sorted(path.name.rpartition("-")[0] for path in temporary.iterdir()) == ["avel-model", "avel-predict"]
    assert list(temporary.iterdir()) == []
    assert held.run == "cace"


def test_equal_runs_give_equal_bytes_and_a_card_that_says_what_it_is(command, exported, tmp_path):
    again = tmp_path / "again.avel"
    assert command("export", "cace", "--out", again)[0] == 0
    assert again.read_bytes() == exported.read_bytes()
    with zipfile.ZipFile(exported) as archive:
        assert set(archive.namelist()) == {"README.md", "model.json", "seed-1.json", "seed-1.safetensors"}
        card = archive.read("README.md").decode()
    digest = KNOWN["efficientnet_lite0"].sha256
    assert (tmp_path / "again.avel.md").read_text(encoding="utf-8") == card
    assert says(card, "# cace", "`cace_net`", "`avel`", project_version(), "Classes: ", "| accuracy |", "95 %", "trivial answer")
    assert says(card, "trivial answer", digest, "not in this file", "Apache-2.0", "drawn by a program", "torch")
    assert {"Dog", "Bell"} <= set(card.partition("Classes: ")[2].partition(".")[0].split("; "))


@pytest.mark.usefixtures("quick_pictures")
def test_weights_of_the_users_and_with_whole_published_ones_travel(project, command, edit_params, tmp_path, monkeypatch):
    published = find(KNOWN["efficientnet_lite0"])
    shutil.copy2(published, project / "own.pth")
    assert command("export", "avel", "--seed", 0, "--whole", "--out", tmp_path / "whole.avel")[0] == 0
    edit_params(lambda params: params["features"]["first"]["visual"].update(weights="own.pth"))
    try:
        assert command("export", "avel", "--out", tmp_path / "own.avel")[0] == 0
    finally:
        (project / "own.pth").unlink()
    monkeypatch.chdir(tmp_path)
    for name in ("whole", "own"):
        with zipfile.ZipFile(f"{name}.avel") as archive:
            [inside] = [entry for entry in archive.namelist() if entry.startswith("weights/")]
            assert archive.read(inside) == published.read_bytes()
            assert "in this file" in archive.read("README.md").decode()
    film = sorted((project / CLIPS).iterdir())[1]
    code, out, err = command("predict", film, "--model", "own.avel", "--out", "predicted")
    assert (code, err) == (0, "")
    assert says(out, "avel seed 4")  # the first of params.yaml, as with --run


def test_a_program_of_torch_alone_gives_the_scores_of_the_network(command, tmp_path):
    assert command("export", "cace", "--program", "--out", tmp_path / "cace.avel")[0] == 0
    with zipfile.ZipFile(tmp_path / "cace.avel") as archive:
        program = torch.export.load(io.BytesIO(archive.read("seed-1.pt2"))).module()
    network, facts = load_seed("models/runs/cace", 1)
    torch.manual_seed(3)
    visual, audio = (torch.rand(1, 10, *facts["shapes"][name]) for name in ("visual", "audio"))
    with torch.no_grad():
        expected = network.predict(Batch(visual, audio, torch.ones(1, 10, dtype=torch.bool))).tensors()
        found = program(visual, audio, {})
    assert found.keys() == expected.keys()
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores, rtol=1e-4, atol=1e-6)


def rewritten(path: Path, out: Path, **changes) -> Path:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "model.json":
                content = sealed({**unsealed(content), **changes}).encode()
            new.writestr(name, content)
    return out


def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(project, command, exported, tmp_path):
    film = sorted((project / CLIPS).iterdir())[0]
    (tmp_path / "cut.avel").write_bytes(exported.read_bytes()[:-200])
    flipped = bytearray(exported.read_bytes())
    flipped[exported.read_bytes().index(b"seed-1.safetensors") + 4000] ^= 1
    (tmp_path / "flipped.avel").write_bytes(flipped)
    audio = {"encoder": "clap", "folder": "weights/..", "weights": "none"}
    features = unsealed(zipfile.ZipFile(exported).read("model.json"))["features"]
    leading = rewritten(exported, tmp_path / "leading.avel", features={**features, "audio": audio})
    above = f"{tmp_path.name}-above"  # would come to lie beside the folder that the file is unpacked in
    with zipfile.ZipFile(leading, "a") as archive:
        archive.writestr(f"weights/../{above}", b"")
    cases = {
        leading: ["leading.avel", "weights/..", "leads out"],
        tmp_path / "none.avel": ["there is no such file", "export RUN"],
        tmp_path / "cut.avel": ["cut.avel is not a whole file", "export again"],
        tmp_path / "flipped.avel": ["flipped.avel"],
        rewritten(exported, tmp_path / "later.avel", format=2): ["later version", "format 2"],
        rewritten(exported, tmp_path / "strange.avel", media={"speed": 3}): ["strange.avel", "speed"],
    }
    for path, words in cases.items():
        code, out, err = command("predict", film, "--model", path, "--out", tmp_path / "out")
        assert (code, out, err.count("\n"), "Traceback" in err) == (2, "", 1, False), err
        assert says(err, *words)
    assert not Path(tempfile.gettempdir(), above).exists()
    code, _, err = command("predict", film, "--model", exported, "--seed", 7, "--out", tmp_path / "out")
    assert code == 2
    assert says(err, "no seed 7", "seeds in it: 1")
    assert not (tmp_path / "out").exists()


def test_a_run_that_cannot_be_exported_leaves_no_file(command, tmp_path):
    for arguments, words in (
        (["later"], ["'later' was never trained"]),
        (["cace", "--seed", 5], ["no seed 5"]),
        (["nothing"], ["'nothing'"]),
    ):
        code, _, err = command("export", *arguments, "--out", tmp_path / "out.avel")
        assert code == 2
        assert says(err, *words)
    assert list(tmp_path.iterdir()) == []


def test_only_an_exported_run_is_replaced(command, exported, tmp_path):
    film = tmp_path / "holiday.mp4"
    film.write_bytes(b"a film")
    code, _, err = command("export", "cace", "--out", film)
    assert code == 2
    assert says(err, str(film))
    assert film.read_bytes() == b"a film"
    card = tmp_path / "out.avel.md"
    card.write_text("notes", encoding="utf-8")
    code, _, err = command("export", "cace", "--out", tmp_path / "out.avel")
    assert code == 2
    assert says(err, str(card))
    assert card.read_text(encoding="utf-8") == "notes"
    assert command("export", "cace", "--out", exported)[0] == 0


def test_settings_changed_since_the_training_are_named(command, edit_params, tmp_path):
    def change(params):
        params["media"]["frames_per_second"] = 4
        params["dataset"]["segments"] = 5

    edit_params(change)
    code, _, err = command("export", "cace", "--out", tmp_path / "out.avel")
    assert code == 2
    assert "frames_per_second" in err
    assert "segments" in err
    assert "dvc repro" in err
    assert list(tmp_path.iterdir()) == []


def test_a_card_shows_no_scores_of_other_weights(project, command, tmp_path):
    results = project / "data/results/runs/cace/metrics.json"
    before = results.read_text(encoding="utf-8")
    try:
        document = unsealed(before)
        results.write_text(sealed({**document, "weights": {seed: "0" * 64 for seed in document["weights"]}}), encoding="utf-8")
        assert command("export", "cace", "--out", tmp_path / "out.avel")[0] == 0
    finally:
        results.write_text(before, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "out.avel") as archive:
        assert "accuracy" not in archive.read("README.md").decode()


@pytest.fixture
def _by_folds(project):
    """The run ``cace`` as if it had been trained by folds, with another network in the second."""
    runs = project / "models/runs/cace"
    kept = shutil.copytree(runs, project / "kept")
    facts = (runs / "seed-1.json").read_bytes()
    weights, about = load_tensors(runs / "seed-1.safetensors")
    for fold in (0, 1):
        (runs / f"seed-1-fold-{fold}.json").write_bytes(facts)
        save_tensors(runs / f"seed-1-fold-{fold}.safetensors", {name: value * (1 - fold / 2) for name, value in weights.items()}, about)
    for path in runs.glob("seed-1.*"):
        path.unlink()
    yield
    shutil.rmtree(runs)
    kept.rename(runs)


@pytest.mark.usefixtures("_by_folds", "quick_pictures")
def test_a_run_by_folds_names_the_fold_whose_network_answers(project, command, tmp_path):
    film = sorted((project / CLIPS).iterdir())[0]
    code, out, _ = command("predict", film, "--run", "cace", "--out", tmp_path / "default")
    assert code == 0
    assert says(out, "cace seed 1, fold 0")
    code, out, _ = command("predict", film, "--run", "cace", "--fold", "1", "--out", tmp_path / "asked")
    assert code == 0
    assert says(out, "cace seed 1, fold 1")
    first, second = (answers(tmp_path / name / film.stem) for name in ("default", "asked"))
    assert first["segments.csv"] != second["segments.csv"]
    assert json.loads(second["events.json"])["fold"] == 1
    code, out, _ = command("export", "cace", "--out", tmp_path / "folds.avel")
    assert says(out, "1 seed in 2 folds")
    assert command("predict", film, "--model", tmp_path / "folds.avel", "--fold", "1", "--out", tmp_path / "exported")[0] == 0
    assert answers(tmp_path / "exported" / film.stem) == second
    for source in (("--run", "cace"), ("--model", tmp_path / "folds.avel")):
        code, _, err = command("predict", film, *source, "--fold", "2", "--out", tmp_path / "none")
        assert code == 2
        assert says(err, "no", "fold 2", "0, 1")


def test_a_run_without_folds_has_no_fold(project, command, exported, tmp_path):
    film = sorted((project / CLIPS).iterdir())[0]
    for source in (("--run", "cace"), ("--model", exported)):
        code, _, err = command("predict", film, *source, "--fold", "0", "--out", tmp_path / "none")
        assert code == 2
        assert says(err, "no", "fold 0")
