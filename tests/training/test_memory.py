"""Freed memory is kept, free memory is measured, and memory that runs out is explained.

What is kept is tested in a process of its own, because the setting cannot be undone.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from test_first_network import EVERY_STEP, inputs  # noqa: F401  (a fixture)

from pipeline.errors import PipelineError
from pipeline.training import memory
from pipeline.training.placement import memory_settings, training_splits
from tests.wording import says

CPU = torch.device("cpu")
SCRIPT = """
import resource, sys
import numpy as np
from pipeline.training.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(2**24, dtype=np.float32)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
if not keep_freed_memory():
    sys.exit(3)
faults()
print(default, faults())
"""


def test_freed_memory_is_kept():
    """A second tensor of the same size is not mapped in again."""
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, encoding="utf-8", check=False)
    if result.returncode == 3:
        pytest.skip("the C library is not glibc")
    assert result.returncode == 0, result.stderr
    default, kept = map(int, result.stdout.split())
    assert default > 3 * 16  # pages, huge ones (2 MiB) or small: every array is mapped in anew
    assert kept < default / 10


def test_the_free_memory_is_what_the_machine_and_every_group_around_the_process_leave(tmp_path, monkeypatch):
    for name, path in {"MEMINFO": "meminfo", "OWN_GROUP": "cgroup", "GROUPS": "groups"}.items():
        monkeypatch.setattr(memory, name, tmp_path / path)
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   4000 kB\n", encoding="utf-8")
    assert memory.free_memory(CPU) == 4_096_000
    (tmp_path / "cgroup").write_text("0::/slurm/job\n", encoding="utf-8")
    job = tmp_path / "groups" / "slurm" / "job"
    job.mkdir(parents=True)
    for group, limit in ((job, "max"), (job.parent, "3000000")):
        (group / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        (group / "memory.current").write_text("2500000\n", encoding="utf-8")
        (group / "memory.stat").write_text("anon 5\ninactive_file 400000\nactive_file 7\n", encoding="utf-8")
    assert memory.free_memory(CPU) == 900_000
    (tmp_path / "meminfo").write_text("MemAvailable:   500 kB\n", encoding="utf-8")
    assert memory.free_memory(CPU) == 512_000


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
    with pytest.raises(PipelineError) as error, memory.explaining_memory("run, seed 3", CPU, ["machine.seeds_at_once (here 3)", "x"]):
        work()
    assert says(str(error.value), "run, seed 3: out of memory on this machine", "lower machine.seeds_at_once (here 3) or x", "kept")
    assert "\n" not in str(error.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes differ"), memory.explaining_memory("run", CPU, []):
        raise RuntimeError("shapes differ")


@pytest.mark.fault(42)
def test_what_changes_no_number_is_lowered_first(inputs):  # noqa: F811
    splits = training_splits(inputs, EVERY_STEP)
    assert [setting.split()[0] for setting in memory_settings(inputs, splits, True, 3)] == [
        "machine.seeds_at_once", "train.resident_gb", "recipe.batch_size",
    ]  # fmt: skip
    assert memory_settings(inputs, splits, False) == ["recipe.batch_size of jomold (here 4)"]
