"""Published features alone, without a single raw clip, from `dvc repro` to a table; and a killed import."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tiny_project import NARROW, TINY, Project

from pipeline import config
from pipeline.datasets import build_index, read_index, write_index
from pipeline.features.importing import Import
from pipeline.features.store import FeatureStore
from pipeline.synth.ave_features import MadeFeatures, make_features
from tests.wording import says

CLASSES = ("Bark", "Flute", "Truck")
SPLITS = {"trainSet.txt": range(12), "valSet.txt": range(12, 16), "testSet.txt": range(16, 20)}
STREAMS = {
    "visual": {"file": "visual_feature.h5", "shape": [3, 3, 8], "negatives": "visual_feature_noisy.h5"},
    "audio": {"file": "audio_feature.h5", "shape": [6], "negatives": "audio_feature_noisy.h5"},
}
SHARD_BYTES = 30_000


@pytest.fixture(scope="module")
def project(tmp_path_factory, repository, programs):
    """A project with AVE-shaped files below data/published; clip 0 stands in two rows."""
    project = Project(tmp_path_factory.mktemp("imported"), repository, programs)
    annotations = project.root / "annotations"
    annotations.mkdir()
    clips = [f"clip{max(number, 1):07d}" for number in range(20)]
    lines = [f"{CLASSES[number % 3]}&{clip}&good&{number % 4}&{6 + number % 5}" for number, clip in enumerate(clips)]
    (annotations / "Annotations.txt").write_text("\n".join(lines), encoding="utf-8")
    for name, rows in SPLITS.items():
        (annotations / name).write_text("\n".join(lines[row] for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        make_features(project.root / "data" / "published", annotations, MadeFeatures(positions=3, visual=8, audio=6, dtype="float64"))
    project.write_params(params())
    project.commit()
    return project


def params():
    dataset = {**TINY["dataset"], "clips": "data/none", "annotations": "data/published/annotations", "negatives": 178}
    imports = {"published": {"directory": "data/published/features", **STREAMS}}
    runs = {"avel": {"task": "avel", "method": "avel", "features": "published", "seeds": [0, 1]}}
    blocks = {"synth": {}, "features": {}, "dataset": dataset, "imports": imports, "runs": runs, "report": {"title": "Imported"}}
    return {**TINY, **blocks, "methods": {"avel": {**TINY["methods"]["avel"], "recipe": {**NARROW, "epochs": 1}}}}


def test_published_features_become_a_table_without_any_clip(project):
    ran, output = project.repro()
    assert ran == {"plan", "index", "decode", "import_features@published", "train@avel", "evaluate@avel", "report"}, output
    assert "Traceback" not in output
    assert json.loads((project.root / "data/clips/summary.json").read_text(encoding="utf-8"))["clips"] == 0
    index = pd.read_parquet(project.root / "data/index/index.parquet")
    store = FeatureStore(project.root / "data/features/published")
    assert (len(index), len(store)) == (20 + 178, 19 + 178)  # rows, clips
    assert (store.entries(index) == index.index).all()
    scored = json.loads((project.root / "data/results/runs/avel/metrics.json").read_text(encoding="utf-8"))["clips"]
    assert scored["test"] == {"evaluated": 4, "without features": []}
    assert set(json.loads((project.root / "data/results/report/metrics.json").read_text(encoding="utf-8"))) == {"avel"}
    table = (project.root / "data/results/report/table.md").read_text(encoding="utf-8")
    assert says(table, "avel (made features) [1]", "[1] Made features (python -m pipeline make-features)")
    assert project.repro()[0] == set()


def test_an_import_killed_in_the_middle_goes_on_where_it_was(project, tmp_path, monkeypatch):
    """SIGKILL between two shards, in a process that is slowed down; then the same bytes as undisturbed."""
    script = f"""
import sys, time
from pathlib import Path
from pipeline import config
from pipeline.datasets import read_index
from pipeline.features.importing import Import
from pipeline.stage import publishing
params = config.load(Path("params.yaml"))
importing = Import(params.imports["published"], params.dataset, read_index(Path("data/index"))[0], shard_bytes={SHARD_BYTES})
importing.check()
shard = importing._shard
def slow(*arguments):
    print("shard", flush=True)
    time.sleep(float(sys.argv[1]))
    return shard(*arguments)
importing._shard = slow
with publishing(Path({str(tmp_path / "torn")!r}), resume=importing.fingerprint()) as directory:
    importing.run(directory)
"""
    monkeypatch.chdir(project.root)
    settings = config.load(Path("params.yaml"))
    index = build_index(settings.dataset)
    Path("data/index").mkdir(exist_ok=True)
    write_index(index, Path("data/index"))
    (tmp_path / "whole").mkdir()
    Import(settings.imports["published"], settings.dataset, read_index(Path("data/index"))[0], SHARD_BYTES).run(tmp_path / "whole")
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    shards = sum(name.endswith(".npy") for name in files)
    assert shards > 20
    (project.root / "slowly.py").write_text(script, encoding="utf-8")
    project.kill_when(lambda: len(list(tmp_path.glob(".torn.*/*.npy"))) >= 5, "python", "-m", "slowly", "0.05")
    assert not (tmp_path / "torn").exists()
    kept = len(list(tmp_path.glob(".torn.*/*.npy")))
    assert project.run("python", "-m", "slowly", "0").count("shard") == shards - kept
    assert {path.name: path.read_bytes() for path in (tmp_path / "torn").iterdir()} == files
