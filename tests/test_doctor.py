import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline import __main__ as program
from pipeline import before_work, config, doctor
from pipeline.before_work import will_write
from pipeline.cache import Cache
from pipeline.doctor import Finding, as_text
from pipeline.made_from import run_params
from pipeline.plan import write_plan
from pipeline.project import elsewhere
from pipeline.sealed import write_sealed
from tests.wording import each_says, one_says, says


def by_name(findings):
    return {finding.about: finding for finding in findings}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder in which a user works, with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_params(project, repository, **visual):
    yaml = YAML(typ="safe")
    params = yaml.load((repository / "suites" / "demo.yaml").read_text(encoding="utf-8"))
    params["features"]["lite0_logmel"]["visual"] |= visual
    with open(project / "params.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def test_this_environment_is_healthy(project):
    for finding in (*doctor.versions(), *doctor.devices(), *doctor.decoders()):
        assert not finding.advice, finding
    assert by_name(doctor.versions())["torch"].found.startswith("2.11.")


def test_another_torch_beside_its_set_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "2.12.0" if name == "torchaudio" else "2.11.0")
    found = by_name(doctor.versions())
    assert "2.11.*" in found["torchaudio"].advice
    assert not found["torch"].advice


def test_params_that_are_missing_or_wrong_are_told(project):
    params, finding = doctor.load_params(project / "params.yaml")
    assert params is None
    assert "cd " in finding.advice
    (project / "dvc.yaml").write_text("", encoding="utf-8")
    assert "suites" in doctor.load_params(project / "params.yaml")[1].advice
    (project / "params.yaml").write_text("synth: {}\nmedia: {frames: 2}\n", encoding="utf-8")
    assert "media.frames: unknown" in doctor.load_params(project / "params.yaml")[1].advice


def test_names_that_fail_hours_later_are_told(project, repository):
    text = (repository / "suites" / "demo.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(text.replace("  cace_net:\n    task", "  cace_0.4:\n    task"), encoding="utf-8")
    params, finding = doctor.load_params(project / "params.yaml")
    assert params is None
    assert says(finding.advice, "runs.cace_0.4: ", "'cace_0.4'")


@pytest.mark.parametrize(("extensions", "told"), [(["avx2"], True), ([], True), (["avx2", "avx512f"], False)])
def test_a_precision_that_the_processor_must_emulate_is_told(project, repository, monkeypatch, extensions, told):
    monkeypatch.setattr(before_work, "this_machine", lambda: {"extensions": extensions})
    monkeypatch.setattr(before_work.platform, "machine", lambda: "x86_64")
    text = (repository / "suites" / "demo.yaml").read_text(encoding="utf-8")
    text = text.replace("    device: auto\n", "    device: cpu\n    precision: bfloat16\n", 1)
    (project / "params.yaml").write_text(text, encoding="utf-8")
    found = by_name(doctor.data(doctor.load_params(project / "params.yaml")[0], project))
    assert ("features.lite0_logmel.precision" in found) == told
    assert not told or says(found["features.lite0_logmel.precision"].advice, "float32")
    assert "train.precision" not in found


def test_weights_that_a_feature_set_needs_are_a_problem_and_others_are_not(project, repository):
    write_params(project, repository)
    found = by_name(doctor.weights(doctor.load_params(project / "params.yaml")[0]))
    assert not any(finding.advice for finding in found.values())
    assert found["weights efficientnet_lite0"].found.startswith("579344248a93e230 ")
    assert found["weights vgg19"].found == "not here"
    assert says(found["lite0_tuned_logmel.visual"].found, "efficientnet_lite0", "finetuned/lite0", "finetune", "not yet run")
    write_params(project, repository, weights="elsewhere.pth")
    found = by_name(doctor.weights(doctor.load_params(project / "params.yaml")[0]))
    assert "elsewhere.pth" in found["lite0_logmel.visual"].advice


def test_a_weights_file_that_is_not_the_published_one_is_a_problem(project):
    path = project / "models" / "pretrained" / "vgg19-dcbb9e9d.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    finding = by_name(doctor.weights(None))["weights vgg19"]
    assert says(finding.advice, "dcbb9e9d", "weights get vgg19")


def test_the_cache_is_measured_and_a_full_disk_is_a_problem(project, monkeypatch):
    cache = Cache()
    assert by_name(doctor.cache(cache))["cache"].found.endswith("empty")
    cache.put("features", "ab" * 32, {"features": np.zeros(30_000_000, np.uint8)})
    found = by_name(doctor.cache(cache))
    assert says(found["cache"].found, f"{cache.root}: ", "features 1 ", "0.03 GiB")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**30}))
    assert "space" in by_name(doctor.cache(cache))["cache disk"].advice


def test_films_used_in_part_are_told_and_are_no_problem(project):
    assert not one_says([finding.about for finding in doctor.data(None, project)], "films")
    (project / "data" / "clips").mkdir(parents=True)
    write_sealed(project / "data" / "clips" / "summary.json", {"clips": 1, "ok": 1, "health": ["films longer than what is used: 1"]})
    (finding,) = [finding for finding in doctor.data(None, project) if finding.about == "films"]
    assert (finding.found, finding.advice) == ("films longer than what is used: 1", "")


@pytest.fixture
def warm(programs, monkeypatch):
    """Programs that need not import their libraries, which the doctor gets, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return programs


def test_dvc_says_what_waits(project, warm):
    assert "dvc init" in doctor.dvc(project).advice
    subprocess.run([warm / "dvc", "init", "-q", "--no-scm"], cwd=project, check=True)
    (project / "dvc.yaml").write_text("stages:\n  say:\n    cmd: echo hello > hello\n    outs: [hello]\n", encoding="utf-8")
    waiting = doctor.dvc(project)
    assert says(waiting.found, "1 stages", ": say", "`dvc repro`")
    assert not waiting.advice
    (project / "dvc.yaml").write_text("stages: [", encoding="utf-8")
    assert "`dvc status`" in doctor.dvc(project).advice


@pytest.mark.parametrize("path", doctor.TORN)
def test_a_file_that_a_killed_dvc_cut_short_is_told_with_what_to_do(project, warm, path):
    def run(*words, code=0):
        done = subprocess.run([warm / "dvc", *words], cwd=project, check=False)
        assert done.returncode == code

    run("init", "-q", "--no-scm")
    (project / "dvc.yaml").write_text("stages:\n  say:\n    cmd: echo hello > hello\n    outs: [hello]\n", encoding="utf-8")
    run("repro", "-q")
    content = (project / path).read_text(encoding="utf-8")
    assert content
    (project / path).write_text(content[: len(content) // 2], encoding="utf-8")
    run("repro", "-q", code=255)
    found = doctor.dvc(project)
    assert path in found.found
    assert f"rm {path}" in found.advice
    (project / path).unlink()
    run("repro", "-q")
    assert says(doctor.dvc(project).found, "up to date")
    assert not doctor.dvc(project).advice


def test_problems_come_last_and_numbered_with_their_advice():
    text = as_text([Finding("gpu", "none"), Finding("cache", "full", "free some space"), Finding("dvc", "broken", "mend it")])
    assert text.splitlines()[0] == "  gpu                    none"
    assert text.splitlines()[1].startswith("! cache")
    assert each_says(text.splitlines()[-3:], [("2 problems",), ("1. ", "cache", "free some space"), ("2. ", "dvc", "mend it")])
    assert "0 problems" in as_text([Finding("gpu", "none")]).splitlines()[-1]


def command(monkeypatch, capsys, name):
    """Exit code and output of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["pipeline", name])
    try:
        program.main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr()


def test_the_command_ends_with_1_where_there_is_a_problem(project, monkeypatch, capsys):
    code, told = command(monkeypatch, capsys, "doctor")
    assert code == 1, told.err
    assert "! params.yaml" in told.out
    assert "Traceback" not in told.err


@pytest.mark.fault(40)
def test_data_that_a_setting_names_and_is_not_here_is_a_problem(project, repository):
    shutil.copy(repository / "suites" / "llp.yaml", project / "params.yaml")
    params = doctor.load_params(project / "params.yaml")[0]
    found = by_name(doctor.data(params, project))
    assert "data/published/llp/annotations" in found["dataset.annotations"].found
    assert found["dataset.annotations"].advice
    assert "dataset.clips" not in found  # data/none stands for none
    write_params(project, repository)
    assert [finding.advice for finding in doctor.data(doctor.load_params(project / "params.yaml")[0], project)] == [""]


def provenance(project, name="avel", mixed=(), stale=()):
    """A published table of one run, as far as the doctor reads it; returns the params it was made with."""
    params = config.load(project / "params.yaml")
    report = project / "data" / "results" / "report"
    report.mkdir(parents=True, exist_ok=True)
    (report / "table.md").write_text("| Run |\n", encoding="utf-8")
    for run in set(params.runs) - {name}:
        del params.runs[run]
    run = {"run": params.runs[name].model_dump(mode="json"), "absent": "", "stale": list(stale), "machines": {}}
    run["params"] = [run_params(params, name)]
    document = {"machines": "The runs mix machines." if mixed else "Made on: EPYC.", "mixed": list(mixed), "runs": {name: run}}
    (report / "provenance.json").write_text(json.dumps(document), encoding="utf-8")


def write_one_run(project, repository, **train):
    yaml = YAML(typ="safe")
    params = yaml.load((repository / "suites" / "demo.yaml").read_text(encoding="utf-8"))
    params["runs"] = {"avel": params["runs"]["avel"]}
    params["train"] |= train
    with open(project / "params.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def test_a_table_that_mixes_machines_or_is_older_than_the_params_is_told(project, repository):
    assert each_says([finding.found for finding in doctor.results(project)], [("not made", "`dvc repro`")])
    write_one_run(project, repository)
    provenance(project)
    assert list(doctor.results(project)) == [Finding("table", "Made on: EPYC.")]
    provenance(project, mixed=["training"])
    (finding,) = doctor.results(project)
    assert finding.found == "The runs mix machines."
    assert "train" in finding.advice
    provenance(project)
    write_one_run(project, repository, threads=2)
    found = [finding.found for finding in doctor.results(project)]
    assert each_says(found, [("Made on: EPYC.",), ("avel: stale", "train.threads 1 -> 2")])
    (project / "params.yaml").write_text("synth: {}\n", encoding="utf-8")  # a problem of its own, which `dvc repro` does not mend
    assert [finding.found for finding in doctor.examine(project) if finding.about == "table"] == ["Made on: EPYC."]


def test_the_command_table_compares_with_todays_params(project, repository, monkeypatch, capsys):
    def table():
        code, told = command(monkeypatch, capsys, "table")
        assert code == 0, told.err
        return told.out

    write_one_run(project, repository)
    provenance(project)
    assert "stale" not in table()
    write_one_run(project, repository, threads=2)
    assert one_says(table().splitlines(), "- avel: stale", "train.threads 1 -> 2")
    (project / "params.yaml").write_text("synth: [", encoding="utf-8")
    assert says(table(), "not compared", "params")


def test_what_a_stage_would_refuse_is_told_before_it_runs(project, repository):
    """Faulty annotations, features of another shape, a device that is not here."""
    yaml = YAML(typ="safe")
    params = yaml.load((repository / "suites" / "ave-supervised.yaml").read_text(encoding="utf-8"))
    (project / "data/none").mkdir(parents=True)
    published = project / "data/published/ave"
    lines = [f"Bark&clip{number:07d}&good&{number}&5\n" for number in range(3)]
    (published / "annotations").mkdir(parents=True)
    (published / "annotations/Annotations.txt").write_text("".join(lines), encoding="utf-8")
    for name, line in zip(("trainSet", "valSet", "testSet"), lines, strict=True):
        (published / f"annotations/{name}.txt").write_text(line, encoding="utf-8")
    (published / "features").mkdir()
    for name, shape in {"visual_feature": (3, 10, 7, 7, 512), "audio_feature": (3, 10, 64)}.items():
        with h5py.File(published / "features" / f"{name}.h5", "w") as file:
            file.create_dataset("avadataset", shape, "f4", fillvalue=0)

    def problems():
        with open(project / "params.yaml", "w", encoding="utf-8") as stream:
            yaml.dump(params, stream)
        findings = doctor.data(doctor.load_params(project / "params.yaml")[0], project)
        return {finding.about: finding.advice for finding in findings if finding.advice}

    found = problems()
    assert {*found} == {"import_features@vgg19_vggish"}
    assert says(found["import_features@vgg19_vggish"], "audio_feature.h5", "(3, 10, 64)", "(3, 10, 128)")
    params["imports"]["vgg19_vggish"]["audio"]["shape"] = [64]
    params["methods"]["leap"] = {}
    run = params["runs"]["leap"] = {"task": "avvp", "method": "leap", "features": "vgg19_vggish", "seeds": [0]}
    run["overrides"] = {"texts": str(project / "texts.npz"), "motion": None, "pseudo_labels": None}
    np.savez(project / "texts.npz", names=np.array(["Meow"]), vectors=np.zeros((1, 300), np.float32))
    found = problems()
    assert {*found} == {"train@leap"}
    assert says(found["train@leap"], "texts.npz", "no vector", "'Bark'")
    del params["runs"]["leap"], params["methods"]["leap"]
    params["train"]["device"] = "cuda"
    assert {*problems()} == (set() if torch.cuda.is_available() else {"train.device"})
    (published / "annotations/Annotations.txt").write_text("Bark&clip\n", encoding="utf-8")
    assert "Annotations.txt" in problems()["index"]
    params["dataset"]["clips"] = "data/films"
    assert "dataset.clips" in problems()


@pytest.mark.parametrize("words", [["table"], ["doctor"], ["use", "demo"], ["predict", "film.mp4", "--run", "avel"]])
def test_a_command_in_another_directory_says_where_the_project_is(project, repository, monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["pipeline", *words])
    with pytest.raises(SystemExit) as stop:
        program.main()
    told = capsys.readouterr()
    assert stop.value.code in (1, 2)
    assert f"cd {repository}" in told.out + told.err
    (project / "dvc.yaml").write_text("", encoding="utf-8")
    (project / "below/it").mkdir(parents=True)
    assert elsewhere(project) == ""
    assert elsewhere(project / "below/it").endswith(f"cd {project}")


def test_weights_are_looked_for_in_the_folder_and_by_the_model_that_an_entry_names(project, repository):
    params = YAML(typ="safe").load((repository / "suites" / "demo.yaml").read_text(encoding="utf-8"))
    model, tuned = "vit_base_patch16_clip_quickgelu_224.openai", {"encoder": "clap", "folder": "clap"}
    places = project / "models/wavlm/model.safetensors", project / f"models/pretrained/{model}.safetensors"
    features = params["features"]["lite0_logmel"]
    params["features"] = {
        "there": features
        | {"visual": {"encoder": "clip", "model": model}, "audio": {"encoder": "waveform_transformer", "folder": "models/wavlm"}},
        "tuned": features | {"finetuned": "both", "audio": tuned | {"weights": "finetuned/both/audio"}},
    }
    params["finetune"] = {"both": next(iter(params["finetune"].values())) | {"train": "both", "audio": tuned}}
    params["finetune"]["both"]["visual"] = features["visual"]
    params["runs"], params["report"] = {}, {"title": "None"}
    with open(project / "params.yaml", "w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(params, stream)

    def found() -> dict[str, Finding]:
        return by_name(doctor.weights(config.load(project / "params.yaml")))

    lacking = found()
    assert says(lacking["there.audio"].advice, "models/wavlm/model.safetensors")
    assert says(lacking["there.visual"].advice, places[1].name)
    assert says(lacking["tuned.audio"].found, "made by the stage finetune")
    for place in places:
        place.parent.mkdir(parents=True)
        place.touch()
    there = found()
    assert not any(there[name].advice for name in ("there.audio", "there.visual", "tuned.audio"))


@pytest.mark.fault(15)
def test_a_program_that_params_name_as_an_encoder_is_not_run(project, repository):
    """A stranger's params.yaml may be looked at before it is trusted."""
    (project / "mine.py").write_text("import pathlib\npathlib.Path('ran').touch()\n", encoding="utf-8")
    (project / "clips").mkdir()
    (project / "clips/film.mp4").write_bytes(b"")
    (project / "labels.csv").write_text("clip,split,label,onset,offset\nfilm.mp4,train,bark,0,1\n", encoding="utf-8")
    params = YAML(typ="safe").load((repository / "suites" / "demo.yaml").read_text(encoding="utf-8"))
    params["dataset"] |= {"kind": "folder", "clips": "clips", "annotations": "labels.csv"}
    params["features"]["lite0_logmel"] |= {"audio": {"encoder": "hear", "module": "mine.py"}}
    with open(project / "params.yaml", "w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(params, stream)
    loaded = config.load(project / "params.yaml")
    findings = [*doctor.data(loaded, project), *doctor.room(loaded, project), *doctor.weights(loaded)]
    write_plan(loaded, project / "plan")
    assert one_says([finding.found for finding in findings if finding.about == "extract@lite0_logmel"], "hear", "not run")
    assert "decode" in {stage for stage, _ in will_write(loaded, project)}
    assert not (project / "ran").exists()
