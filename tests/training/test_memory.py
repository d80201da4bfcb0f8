"""Freed memory is kept: a second tensor of the same size is not mapped in again.

Tested in a process of its own, because the setting cannot be undone.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

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
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, encoding="utf-8", check=False)
    if result.returncode == 3:
        pytest.skip("the C library is not glibc")
    assert result.returncode == 0, result.stderr
    default, kept = map(int, result.stdout.split())
    assert default > 3 * 16  # pages, huge ones (2 MiB) or small: every array is mapped in anew
    assert kept < default / 10
