"""SIGKILL in the middle of extract and of train, then `dvc repro`: the same bytes as a run that nothing disturbed, seed after seed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tiny_project import TIMED, TINY, YAML_12, Project, without_times

CLIPS = sum(count for name, count in TINY["synth"]["tiny"].items() if name.endswith("_clips"))


def times(*files: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files}


def forget(project: Project) -> None:
    """Leave of a project that was run its plan and its raw clips, in DVC's own records as well."""
    made = ("data/index", "data/clips", "data/features", "data/results/report", "models/runs", ".dvc/cache/runs")
    for path in (project.cache, *(project.root / name for name in made), *(project.root / "data/results/runs").glob("*/")):
        shutil.rmtree(path)
    lock = project.root / "dvc.lock"
    document = YAML_12.load(lock)
    document["stages"] = {name: stage for name, stage in document["stages"].items() if name in ("plan", "synthesize@tiny")}
    YAML_12.dump(document, lock)


@pytest.mark.fault(19, 20)
def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(tiny, tmp_path):
    """Run again from the raw clips on, by other interpreters: sets are not in the order in which the undisturbed run had them."""
    undisturbed, expected, _ = tiny
    project = undisturbed.copy_to(tmp_path / "killed")
    forget(project)

    def entries() -> list[Path]:
        return list((project.cache / "features").rglob("*.npz"))

    project.kill_when(lambda: len(entries()) >= 5, "dvc", "repro", "extract@first")
    assert not (project.root / "data/features/first").exists()
    encoded = times(*entries())
    assert 5 <= len(encoded) < 2 * CLIPS
    ran, output = project.repro("extract@first")
    assert ran == {"extract@first"}
    now = int(re.search(rf"{CLIPS} clips stored, (\d+) encoded", output)[1])
    assert 0 < now <= CLIPS - 2  # of five entries, two for a clip, two clips at least are whole
    assert times(*encoded) == encoded

    partial = project.root / "models/runs"
    project.kill_when(lambda: any(partial.glob(".avel_first.*.partial/seed-1.checkpoint")), "dvc", "repro", "train@avel_first")
    assert not (partial / "avel_first").exists()
    (work,) = partial.glob(".avel_first.*.partial")
    (first_seed,) = times(work / "seed-0.safetensors").values()
    project.repro()
    assert times(partial / "avel_first/seed-0.safetensors").popitem()[1] == first_seed  # a finished seed is not trained again
    outs = project.outs()
    assert outs.keys() == expected.keys()
    assert [path for path in outs if path not in TIMED and outs[path] != expected[path]] == []
    for path in TIMED:
        assert without_times(path, outs[path]) == without_times(path, expected[path]), path


def test_seeds_trained_by_code_that_changed_meanwhile_are_trained_again(project):
    """Killed after seed 0, then a layer is changed: no seed of the old code stays beside one of the new."""
    runs, layer = project.root / "models/runs", project.root / "pipeline/layers/audio_guided_spatial.py"
    train, code = ("python", "-m", "stages.train", "avel_first"), layer.read_bytes()

    def seeds():
        return [(runs / "avel_first" / f"seed-{seed}.safetensors").read_bytes() for seed in (0, 1)]

    before = seeds()
    project.kill_when(lambda: any(runs.glob(".avel_first.*.partial/seed-1.checkpoint")), *train)
    (left,) = runs.glob(".avel_first.*.partial")
    assert (left / "seed-0.safetensors").read_bytes() == before[0]
    assert code.count(b".softmax(dim=-1)") == 1
    layer.write_bytes(code.replace(b".softmax(dim=-1)", b".mul(2).softmax(dim=-1)"))
    project.run(*train)
    resumed = seeds()
    shutil.rmtree(runs / "avel_first")
    project.run(*train)
    assert resumed == seeds()
    assert all(ours != earlier for ours, earlier in zip(resumed, before, strict=True))
