"""SIGKILL in the middle of extract and of train, then `dvc repro`: the same bytes as a run that nothing disturbed, seed after seed."""

import shutil

import pytest
from tiny_project import TIMED, TINY, Project, without_times

pytestmark = pytest.mark.xdist_group("tiny")  # one process: the tiny project is run from nothing once


@pytest.mark.fault(19, 20)
def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(tiny, tmp_path, repository):
    _, expected, _ = tiny
    project = Project(tmp_path, repository)  # a cache of its own: everything is computed again
    project.write_params(TINY)
    project.commit()

    def encoded() -> int:
        return sum(1 for _ in (project.cache / "features").rglob("*.npz"))

    project.kill_when(lambda: encoded() >= 3, "dvc", "repro")
    assert not (project.root / "data/features/first").exists()
    finished = encoded()
    assert 3 <= finished < 2 * 22

    partial = project.root / "models/runs"
    project.kill_when(lambda: any(partial.glob(".avel_first.*.partial/seed-1.checkpoint")), "dvc", "repro")
    assert not (partial / "avel_first").exists()
    (work,) = partial.glob(".avel_first.*.partial")
    first_seed = (work / "seed-0.safetensors").stat().st_mtime_ns

    project.write_params({**TINY, "machine": {"seeds_at_once": 2}})  # the one that is left goes on, and other runs' go side by side
    project.kill_when(lambda: len(list(partial.glob(".avel_second.*.partial/seed-*.checkpoint"))) == 2, "dvc", "repro")
    _, output = project.repro()
    assert (partial / "avel_first" / "seed-0.safetensors").stat().st_mtime_ns == first_seed  # a finished seed is not trained again
    assert "22 clips stored" not in output or "22 encoded" not in output
    outs = project.outs()
    assert {path: content for path, content in outs.items() if path not in TIMED} == {
        path: content for path, content in expected.items() if path not in TIMED
    }
    for path in TIMED:
        assert without_times(path, outs[path]) == without_times(path, expected[path]), path


def test_seeds_trained_by_code_that_changed_meanwhile_are_trained_again(tiny):
    """Killed after seed 0, then a layer is changed: no seed of the old code stays beside one of the new."""
    project, _, _ = tiny
    runs, layer = project.root / "models/runs", project.root / "pipeline/layers/audio_guided_spatial.py"
    train, code = ("python", "-m", "stages.train", "avel_first"), layer.read_bytes()

    def seeds():
        return [(runs / "avel_first" / f"seed-{seed}.safetensors").read_bytes() for seed in (0, 1)]

    before = seeds()
    try:
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
    finally:
        layer.write_bytes(code)
        project.repro()
