"""The DAG itself: from nothing to a table, and after a change exactly what depends on it."""

import copy
import csv
import io
import json
import re

import pandas as pd
import pytest
from tiny_project import TINY

RUNS = set(TINY["runs"])
pytestmark = pytest.mark.xdist_group("tiny")  # one process: the tiny project is run from nothing once


def changed(**blocks):
    params = copy.deepcopy(TINY)
    for path, value in blocks.items():
        *keys, last = path.split("__")
        block = params
        for key in keys:
            block = block[key]
        block[last] = value
    return params


@pytest.mark.fault(40)
def test_raw_clips_become_a_table(tiny):
    project, outs, output = tiny
    metrics = json.loads(outs["data/results/report/metrics.json"])
    assert set(metrics) == RUNS
    assert all(set(run) == {"accuracy", "std"} and 0 <= run["accuracy"] <= 100 for run in metrics.values())
    assert all(f"| {run} |" in output for run in RUNS)
    manifest = pd.read_parquet(project.root / "data/clips/clips.parquet")
    assert list(manifest["status"]) == ["ok"] * 22
    assert b"<h1>Tiny</h1>" in outs["data/results/report/index.html"]


def test_nothing_changed_nothing_runs(project):
    assert project.repro()[0] == set()


def test_a_number_of_one_method_reruns_its_runs_and_the_report(project):
    project.write_params(changed(methods__cace_net__lambda_contrast=0.4))
    assert project.repro()[0] == {"plan", "train@cace_first", "evaluate@cace_first", "report"}


def test_a_setting_of_one_encoder_reruns_its_feature_set_and_the_runs_on_it(project):
    project.write_params(changed(features__second__visual__image_size=48))
    ran, output = project.repro()
    assert ran == {"plan", "extract@second", "train@avel_second", "evaluate@avel_second", "report"}
    assert "22 clips stored, 22 encoded" in output


def test_a_new_seed_reruns_its_run_alone(project):
    project.write_params(changed(runs__avel_second__seeds=[0, 1, 2]))
    assert project.repro()[0] == {"plan", "train@avel_second", "evaluate@avel_second", "report"}


def test_a_new_title_reruns_the_report_alone(project):
    project.write_params(changed(report__title="Other"))
    assert project.repro()[0] == {"report"}


@pytest.fixture
def code(project):
    """The tiny project's code; what a test changes in it is put back."""
    changed = {}

    def edit(path, addition="# edited\n"):
        changed.setdefault(path, (project.root / path).read_bytes())
        project.edit(path, addition)

    yield edit
    for path, content in changed.items():
        (project.root / path).write_bytes(content)


def test_a_layer_of_one_method_reruns_its_runs_alone(project, code):
    code("pipeline/methods/cace_net/spiking.py")
    assert project.repro()[0] - {"report"} == {"plan", "train@cace_first", "evaluate@cace_first"}


def test_a_new_method_reruns_no_run(project, code):
    code("pipeline/methods/__init__.py")
    (project.root / "pipeline/layers/brand_new.py").write_text("X = 1\n", encoding="utf-8")
    (project.root / "pipeline/methods/brand_new.py").write_text("from pipeline.layers.brand_new import X\n", encoding="utf-8")
    ran, _ = project.repro()
    for room in ("layers", "methods"):
        (project.root / "pipeline" / room / "brand_new.py").unlink()
    assert ran == {"plan", "report"}


def test_a_change_of_the_bootstrap_trains_nothing(project, code):
    code("pipeline/metrics/bootstrap.py")
    assert project.repro()[0] == {"plan", "report"}


def test_an_encoder_s_code_reruns_the_extractions_that_use_it(project, code):
    code("pipeline/encoders/vggish.py")
    assert project.repro()[0] == {"plan"}
    code("pipeline/encoders/logmel.py")
    assert project.repro()[0] == {"plan", "extract@first", "extract@second"}  # which give the bytes they gave


def test_weights_of_a_path_are_data(project, tmp_path):
    from safetensors.torch import save_file

    from pipeline.encoders import create

    weights, encoder = tmp_path / "own.safetensors", create("efficientnet_lite0", weights="none")
    save_file(encoder.network.state_dict(), weights)
    project.write_params(changed(features__second__visual__weights=str(weights)))
    after = {"train@avel_second", "evaluate@avel_second", "report"}
    assert project.repro()[0] == {"plan", "extract@second", *after}
    assert project.repro()[0] == set()
    save_file({name: value * 1.25 if value.is_floating_point() else value for name, value in encoder.network.state_dict().items()}, weights)
    assert project.repro()[0] == {"plan", "extract@second", *after}
    weights.unlink()
    project.write_params(changed(features__second__visual__weights=str(weights), report__title="T"))
    assert "features.second.visual.weights" in project.run("dvc", "repro", code=255)


def test_the_place_of_the_cache_reruns_nothing(project):
    project.write_params(changed(cache__dir=str(project.cache)))
    assert project.repro()[0] == set()


def test_what_the_machine_can_bear_reruns_nothing(project):
    project.write_params({**TINY, "machine": {"seeds_at_once": 2}})
    assert project.repro()[0] == set()


def test_one_more_clip_is_decoded_and_encoded_alone(project):
    project.write_params(changed(synth__tiny__train_clips=13))
    ran, output = project.repro()
    assert {"index", "decode", "extract@first", "extract@second"} <= ran
    assert "decode: 1 of 23 clips decoded now" in output
    assert output.count("23 clips stored, 1 encoded") == 2


@pytest.mark.fault(18)
def test_a_faulty_params_file_stops_before_any_work(project):
    params = changed(methods__cace_net__lambda_contrst=0.4, runs__avel_first__features="frist")
    params["media"]["frames_per_second"] = 0
    project.write_params(params)
    output = project.run("dvc", "repro", code=None)
    for words in ("did you mean 'lambda_contrast'?", "did you mean 'first'?", "media.frames_per_second", "3 problems"):
        assert words in output
    assert "Traceback" not in output


def test_experiments_compare_readably(project):
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "--allow-empty", "-m", "results")
    project.run("dvc", "exp", "run", "--name", "less", "-S", "methods.cace_net.lambda_contrast=0.4")
    lines = list(csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "--csv", "--only-changed"))))
    by_name = {line["Experiment"]: line for line in lines}
    assert float(by_name["less"]["methods.cace_net.lambda_contrast"]) == 0.4
    whole = list(csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "--csv"))))
    metrics = [column for column in whole[0] if column.endswith(("accuracy", ".std")) or column == "std"]
    assert len(metrics) == 2 * len(RUNS)
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))
    assert set(shown[""]["data"]["data/results/report/metrics.json"]["data"]) == RUNS
    changes = project.run("dvc", "metrics", "diff", "--all", "HEAD").splitlines()
    assert changes[0].split() == ["Path", "Metric", "HEAD", "workspace", "Change"]
    assert len(changes) == 1 + 2 * len(RUNS)
    assert all(re.search(r" \w+\.(accuracy|std)( +-?\d+(\.\d{1,2})?){3}$", line) for line in changes[1:]), changes
    assert project.run("dvc", "plots", "diff", "HEAD")
    assert "cace_first" in (project.root / "dvc_plots" / "index.html").read_text(encoding="utf-8")

    project.run("dvc", "exp", "run", "--queue", "--name", "later", "-S", "methods.cace_net.lambda_contrast=0.2")
    table = project.run("python", "-m", "pipeline", "table", "--experiments", "l*")
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    assert "| methods.cace_net.lambda_contrast |" in table.splitlines()[0]
    assert re.search(r"^\| less \| done \| 0\.4 \| ", lines["less"])
    assert lines["later"].startswith("| later | queued | 0.2 | – ")
    assert "(there are: later, less)" in project.run("python", "-m", "pipeline", "table", "--experiments", "nothing", code=2)


def test_plots_can_be_drawn(project):
    output = project.run("dvc", "plots", "show")
    page = project.root / "dvc_plots" / "index.html"
    assert page.is_file(), output
    assert "avel_second" in page.read_text(encoding="utf-8")
