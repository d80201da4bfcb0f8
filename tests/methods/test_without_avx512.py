"""bfloat16 training on a processor without AVX-512, like most laptops; simulated by disabling newer instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def test_every_method_trains_and_predicts_in_bfloat16_with_avx2_alone():
    """Both variables are read when a process first computes: hence the contract's test of bfloat16 in one of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | AVX2 | {"OMP_NUM_THREADS": "1"}
    here = Path(__file__).parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "half_precision",
        str(here / "test_method_contract.py"),
    ]
    process = subprocess.run(command, cwd=here.parents[1], env=environment, capture_output=True, encoding="utf-8")
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-2000:]
    assert "skipped" not in process.stdout
