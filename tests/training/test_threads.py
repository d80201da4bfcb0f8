"""``train.threads`` decides, whatever number of threads the environment and the machine suggest."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from test_runs import make_inputs
from pipeline.training.evaluate import evaluate_run
from pipeline.training.settings import TrainSettings
from pipeline.training.train import train_run

root, settings = Path(sys.argv[1]), TrainSettings(device="cpu", threads=1)
inputs = make_inputs(root, epochs=2, seeds=(3,))
run = inputs.run.model_copy(update={"method": "psp"})  # at its full width: on two threads its weights are others
inputs = replace(inputs, run=run, settings={"recipe": {"batch_size": 10, "epochs": 2}})
for name, work in (("models", lambda out: train_run(inputs, settings, out, root / "live")),
                   ("results", lambda out: evaluate_run(inputs, root / "models", settings, out))):
    (root / name).mkdir()
    print(torch.get_num_threads())
    work(root / name)
    print(torch.__config__.parallel_info())
    torch.set_num_threads(int(sys.argv[2]))  # as in the process of another stage
"""


@pytest.mark.fault(34)
def test_weights_and_predictions_are_the_same_whatever_the_environment_says(tmp_path):
    roots = {threads: tmp_path / threads for threads in ("1", "2")}
    runs = {}
    for threads, root in roots.items():
        root.mkdir()
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, "-c", SCRIPT, str(root), threads]
        runs[threads] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")
    for threads, run in runs.items():
        lines = run.communicate()[0].splitlines()
        assert run.returncode == 0
        assert lines.count(threads) == 2  # before the training and before the evaluation
        for library in ("at::get_num_threads", "omp_get_max_threads", "mkl_get_max_threads"):
            counts = [line.split(":")[-1].strip() for line in lines if line.strip().startswith(library)]
            assert counts in (["1", "1"], []) if library.startswith("mkl") else counts == ["1", "1"], library
    for path in ("models/seed-3.safetensors", "results/predictions.parquet"):
        assert (roots["1"] / path).read_bytes() == (roots["2"] / path).read_bytes(), path
