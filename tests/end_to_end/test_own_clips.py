"""A folder of one's own clips, good and bad, through the stages without DVC."""

import json

import pandas as pd
import pytest
from tiny_project import FEATURES, Project

from pipeline.features.store import FeatureStore
from pipeline.synth.settings import SynthSettings
from pipeline.synth.world import write_world
from tests.wording import says


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    write_world(root, SynthSettings(seed=5, train_clips=2, val_clips=1, test_clips=1, picture_size=64), workers=1)
    first, second, *_ = sorted((root / "clips").iterdir())
    (root / "clips" / "deep er").mkdir()
    second.rename(root / "clips" / "deep er" / first.name)
    (root / "clips" / "empty.mp4").write_bytes(b"")
    (root / "clips" / "page.mp4").write_text("<html>video unavailable</html>", encoding="utf-8")
    (root / "clips" / "cut.mp4").write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    return root / "clips"


def params(clips, bad_fraction):
    return {
        **{block: {} for block in ("synth", "finetune", "imports", "labels", "methods", "train", "runs", "report")},
        "dataset": {"kind": "folder", "clips": str(clips), "annotations": str(clips), "segments": 10, "segment_seconds": 1.0},
        "media": {"frames_per_second": 1, "workers": 2, "max_bad_fraction": bad_fraction},
        "features": {"first": FEATURES},
    }


@pytest.mark.fault(1)
def test_every_file_has_features_or_a_status_with_a_reason(clips, tmp_path, repository, programs):
    project = Project(tmp_path, repository, programs)
    project.write_params(params(clips, 1.0))
    for stage in (["index"], ["decode"], ["extract", "first"], ["report"]):
        output = project.run("python", "-m", f"stages.{stage[0]}", *stage[1:])
        if stage == ["decode"]:
            assert says(output, "7 clips", "4 ok")
    manifest = pd.read_parquet(project.root / "data/clips/clips.parquet").set_index("clip")
    bad = manifest[manifest["status"] != "ok"]
    assert set(bad.index) == {"empty.mp4", "page.mp4", "cut.mp4"}
    assert (bad["reason"].str.len() > 5).all()
    store = FeatureStore(project.root / "data/features/first")
    assert set(store.index.index) == set(manifest.index) - set(bad.index)
    summary = json.loads((project.root / "data/clips/summary.json").read_text(encoding="utf-8"))
    assert summary["clips"] == 7
    assert summary["ok"] == 4


@pytest.mark.fault(1)
def test_too_many_bad_clips_stop_the_stage_and_are_named(clips, tmp_path, repository, programs):
    project = Project(tmp_path, repository, programs)
    project.write_params(params(clips, 0.2))
    project.run("python", "-m", "stages.index")
    output = project.run("python", "-m", "stages.decode", code=1)
    assert says(output, "3 of 7", "media.max_bad_fraction", "0.2")
    for name in ("empty.mp4", "page.mp4", "cut.mp4"):
        assert f"- {name}: " in output
    assert not (project.root / "data/clips").exists()
    assert "Traceback" not in output
