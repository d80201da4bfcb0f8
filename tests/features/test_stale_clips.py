"""Settings changed without running `decode` again: every stage that reads clips refuses, and stores no wrong number."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_project import TINY, YAML_12

from pipeline import config
from pipeline.cache import Cache, file_sha256
from pipeline.contrastive.data import select
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.media.decoding import check_manifest, decode_clips, load_decoded
from pipeline.media.job import KIND
from pipeline.report import pictures as report
from pipeline.synth.settings import SynthSettings
from pipeline.synth.world import write_world
from stages import decode, extract, finetune, index
from stages.clips import read_clips
from stages.paths import CLIPS, FEATURES, PARAMS
from tests.wording import says

VISUAL = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32, "pool": "average"}
FEATURE_SET = {**TINY["features"]["first"], "visual": VISUAL, "dtype": "float32"}
TUNED = {"visual": {**VISUAL, "pool": "map"}, "audio": {"encoder": "logmel"}, "epochs": 1, "batch_size": 2, "device": "cpu"}
SYNTH = {"seed": 3, "train_clips": 2, "val_clips": 1, "test_clips": 1, "picture_size": 64}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    write_world(root / "tiny", SynthSettings.model_validate(SYNTH), workers=1)
    return root


class Project:
    """A user's folder with the stages run in this process."""

    def __init__(self, root: Path) -> None:
        self.params = {**TINY, "synth": {"tiny": SYNTH}, "features": {"first": FEATURE_SET}, "finetune": {"tuned": TUNED}, "runs": {}}
        self.params |= {"cache": {"dir": str(root / "cache")}, "report": {"title": "Tiny"}}
        self.write()

    def write(self, **changes) -> None:
        params = {**self.params, **{block: {**self.params[block], **values} for block, values in changes.items()}}
        with open(PARAMS, "w", encoding="utf-8") as stream:
            YAML_12.dump(params, stream)

    def features(self) -> dict[str, np.ndarray]:
        extract.main("first")
        store = FeatureStore(FEATURES / "first")
        clips = sorted(pd.read_parquet(CLIPS / "clips.parquet")["clip"])
        return {modality: store.read(modality, clips) for modality in ("visual", "audio")}

    def clips(self):
        params = config.load(PARAMS)
        cache = Cache(params.cache.place)
        return cache, *read_clips(params, cache)


@pytest.fixture(scope="module")
def decoded(raw, tmp_path_factory) -> Path:
    """A project after `index` and `decode`, to be copied."""
    root = tmp_path_factory.mktemp("decoded")
    (root / "data").mkdir()
    (root / "data" / "raw").symlink_to(raw)
    with contextlib.chdir(root):
        Project(root)
        index.main()
        decode.main()
    return root


@pytest.fixture
def project(decoded, tmp_path, monkeypatch) -> Project:
    return a_copy(decoded, tmp_path / "project", monkeypatch)


def a_copy(decoded: Path, root: Path, monkeypatch) -> Project:
    shutil.copytree(decoded, root, symlinks=True)
    monkeypatch.chdir(root)
    return Project(root)


OTHERWISE = [
    {"media": {"frame_offset": 0.1}},
    {"media": {"frames_per_second": 2}},
    {"media": {"frame_size": 32}},
    {"dataset": {"segments": 5}},
    {"dataset": {"segments": 5, "segment_seconds": 2.0}},
]


@pytest.mark.parametrize("change", OTHERWISE, ids=str)
@pytest.mark.fault(25)
def test_extract_and_finetune_refuse_clips_decoded_with_other_settings(project, change):
    project.write(**change)
    for stage, name in ((extract, "first"), (finetune, "tuned")):
        with pytest.raises(PipelineError, match=r"(?s)^4 of 4 clips .*`dvc repro decode`.*\n  - "):
            stage.main(name)
    assert not (FEATURES / "first").exists()


def test_a_changed_setting_without_decode_stores_no_wrong_features(project, decoded, monkeypatch, tmp_path):
    """The fault as it occurred: another frame_offset, extract alone, then the old params again."""
    project.write(media={"frame_offset": 0.1})
    with pytest.raises(PipelineError, match="`dvc repro decode`"):
        extract.main("first")
    project.write()
    after = project.features()
    for modality, values in a_copy(decoded, tmp_path / "other", monkeypatch).features().items():
        np.testing.assert_array_equal(after[modality], values)


def test_after_decode_a_changed_setting_gets_new_features_and_keeps_the_old(project, capsys):
    before = project.features()
    project.write(media={"frame_offset": 0.1})
    decode.main()
    other = project.features()
    assert np.abs(before["visual"] - other["visual"]).max() > 1e-3
    project.write()
    decode.main()
    capsys.readouterr()
    again = project.features()
    assert "4 clips stored, 0 encoded" in capsys.readouterr().out
    for modality in before:
        np.testing.assert_array_equal(before[modality], again[modality])


def test_working_settings_do_not_matter(project):
    project.write(media={"workers": 2, "timeout_seconds": 9.0})
    extract.main("first")


def test_every_difference_in_decoding_is_noticed_in_the_manifest(project):
    _, rows, manifest, jobs = project.clips()
    check_manifest(manifest, jobs)
    clip = min(jobs)
    moved = [replace(jobs[clip], sha256="0" * 64), replace(jobs[clip], start=1.0)]
    for other in [{**jobs, clip: job} for job in moved] + [{name: jobs[name] for name in jobs if name != clip}]:
        for check in (lambda other=other: check_manifest(manifest, other), lambda other=other: select(rows, manifest, other)):
            with pytest.raises(PipelineError, match=rf"1 of 4 clips .*\n  - {re.escape(clip)}$"):
                check()
    with pytest.raises(PipelineError, match=rf"1 of 3 clips .*\n  - {re.escape(clip)}$"):  # a clip of the index that decode has not seen
        check_manifest(manifest[manifest["clip"] != clip], jobs)


def test_an_evicted_entry_is_not_remade_under_another_key(project):
    cache, _, manifest, jobs = project.clips()
    clip, key = manifest["clip"][0], manifest["key"][0]
    cache.path(KIND, key).unlink()
    other = replace(jobs[clip], settings=jobs[clip].settings.model_copy(update={"frame_offset": 0.1}))
    with pytest.raises(PipelineError, match=rf"clip '{re.escape(clip)}' .*`dvc repro decode`"):
        load_decoded(cache, clip, key, other)
    assert not cache.has(KIND, key)
    assert len(load_decoded(cache, clip, key, jobs[clip])[0]) == 10


def test_the_reports_pictures_are_left_out_with_the_same_sentence(project, tmp_path, monkeypatch, capsys):
    cache, _, manifest, jobs = project.clips()
    other = {clip: replace(job, start=1.0) for clip, job in jobs.items()}

    class Shown:
        clip = manifest["clip"][0]

    monkeypatch.setattr(report, "choose", lambda results: Shown)
    assert report.pictures([], Path("data/index"), manifest, other, cache, tmp_path) == []
    assert says(capsys.readouterr().out, "report: ", "`dvc repro decode`")


@pytest.mark.fault(25)
def test_a_file_that_changed_since_index_is_not_stored_under_the_old_ones_hash(project, tmp_path):
    cache, _, _, jobs = project.clips()
    old, new = (jobs[clip] for clip in sorted(jobs)[:2])
    film = tmp_path / "film.mp4"
    film.write_bytes(Path(new.file).read_bytes())
    job = replace(old, file=str(film))
    cache.path(KIND, job.key).unlink()
    found = f"{film} has the sha256 {file_sha256(film)}, the index {job.sha256}"
    with pytest.raises(PipelineError, match=rf"(?s)1 files .*`index`.*{re.escape(found)}"):
        decode_clips([job], [], job.settings)
    with pytest.raises(PipelineError, match="`index`"):
        load_decoded(cache, job.clip, job.key, job)
    assert not cache.has(KIND, job.key)
    film.write_bytes(Path(old.file).read_bytes())
    assert decode_clips([job], [], job.settings)["status"].tolist() == ["ok"]


def test_a_temporarily_missing_file_is_not_remembered(project, tmp_path):
    cache, _, _, jobs = project.clips()
    source = next(iter(jobs.values()))
    job = replace(source, file=str(tmp_path / "film.mp4"))
    cache.path(KIND, job.key).unlink()
    assert decode_clips([job], [], job.settings)["status"].tolist() == ["missing"]
    Path(job.file).write_bytes(Path(source.file).read_bytes())
    assert decode_clips([job], [], job.settings)["status"].tolist() == ["ok"]


def test_running_out_of_memory_is_not_remembered(project, monkeypatch):
    from pipeline.media import material
    from pipeline.media.job import decode_into_cache

    cache, _, _, jobs = project.clips()
    job = next(iter(jobs.values()))
    cache.path(KIND, job.key).unlink()
    monkeypatch.setattr(material, "read_frames", lambda *_: (_ for _ in ()).throw(MemoryError))
    verdict = decode_into_cache(job)
    assert verdict["status"] == "refused"
    assert says(verdict["reason"], "memory", "media.memory_mb = 4096")
    assert not cache.has(KIND, job.key)


@pytest.mark.parametrize("table", ["data/index/index.parquet", "data/clips/clips.parquet", "data/index/classes.json"])
def test_a_damaged_table_of_an_earlier_stage_is_refused_with_its_place(project, table):
    path = Path(table)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PipelineError, match=rf"^{table} is damaged .*`dvc repro`"):
        extract.main("first")
