"""Free memory is measured, and memory that runs out is explained."""

from __future__ import annotations

import pytest
import torch
from test_first_network import EVERY_STEP, inputs  # noqa: F401  (a fixture)

from pipeline.errors import PipelineError
from pipeline.training import room
from pipeline.training.placement import memory_settings, training_splits
from tests.wording import says

CPU = torch.device("cpu")


def test_the_free_memory_is_what_the_machine_and_every_group_around_the_process_leave(tmp_path, monkeypatch):
    for name, path in {"MEMINFO": "meminfo", "OWN_GROUP": "cgroup", "GROUPS": "groups"}.items():
        monkeypatch.setattr(room, name, tmp_path / path)
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   4000 kB\n", encoding="utf-8")
    assert room.free_memory(CPU) == 4_096_000
    (tmp_path / "cgroup").write_text("0::/slurm/job\n", encoding="utf-8")
    job = tmp_path / "groups" / "slurm" / "job"
    job.mkdir(parents=True)
    for group, limit in ((job, "max"), (job.parent, "3000000")):
        (group / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        (group / "memory.current").write_text("2500000\n", encoding="utf-8")
        (group / "memory.stat").write_text("anon 5\ninactive_file 400000\nactive_file 7\n", encoding="utf-8")
    assert room.free_memory(CPU) == 900_000
    (tmp_path / "meminfo").write_text("MemAvailable:   500 kB\n", encoding="utf-8")
    assert room.free_memory(CPU) == 512_000


def fill_memory():
    torch.empty(2**50, dtype=torch.uint8)


def fail_as(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    "work",
    [
        fill_memory,
        fail_as(MemoryError("Unable to allocate 8. EiB")),
        fail_as(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
        fail_as(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    ],
    ids=["torch", "numpy", "card", "library"],
)
@pytest.mark.fault(42)
def test_memory_that_runs_out_is_one_sentence_that_says_what_to_lower(work):
    with pytest.raises(PipelineError) as error, room.explaining_memory("run, seed 3", CPU, ["machine.seeds_at_once (here 3)", "x"]):
        work()
    assert says(str(error.value), "run, seed 3: out of memory on this machine", "lower machine.seeds_at_once (here 3) or x", "kept")
    assert "\n" not in str(error.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes differ"), room.explaining_memory("run", CPU, []):
        raise RuntimeError("shapes differ")


@pytest.mark.fault(42)
def test_what_changes_no_number_is_lowered_first(inputs):  # noqa: F811
    splits = training_splits(inputs, EVERY_STEP)
    assert [setting.split()[0] for setting in memory_settings(inputs, splits, True, 3)] == [
        "machine.seeds_at_once", "train.resident_gb", "recipe.batch_size",
    ]  # fmt: skip
    assert memory_settings(inputs, splits, False) == ["recipe.batch_size of jomold (here 4)"]
