"""``train.threads`` overrides the number of threads that the environment and the machine suggest."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_runs import make_inputs

from pipeline.training.evaluate import evaluate_run
from pipeline.training.settings import TrainSettings
from pipeline.training.train import train_run

SCRIPT = "import sys, test_threads; test_threads.work(sys.argv[1], 2)"


def work(root: str, threads: int) -> None:
    """Train and evaluate on one thread in a process that has ``threads``; print what it had, and what the libraries say while at work."""
    inputs, settings = make_inputs(Path(root), epochs=2, seeds=(3,)), TrainSettings(device="cpu", threads=1)
    run = inputs.run.model_copy(update={"method": "psp"})  # at its full width: on two threads its weights are others
    inputs = replace(inputs, run=run, settings={"recipe": {"batch_size": 10, "epochs": 2}})
    models, results = Path(root) / "models", Path(root) / "results"
    for directory in (models, results):
        directory.mkdir()
        print(torch.get_num_threads())
        if directory == models:
            train_run(inputs, settings, models, Path(root) / "live")
        else:
            evaluate_run(inputs, models, settings, results)
        print(torch.__config__.parallel_info())
        torch.set_num_threads(threads)  # as in the process of another stage


@pytest.mark.fault(34)
def test_weights_and_predictions_do_not_depend_on_the_environment(tmp_path, capsys):
    """Trained in a process with two threads in its environment, and in this one with one thread."""
    roots = {"1": tmp_path / "one", "2": tmp_path / "two"}
    for root in roots.values():
        root.mkdir()
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    command = [sys.executable, "-c", SCRIPT, str(roots["2"])]
    other = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    capsys.readouterr()
    work(str(roots["1"]), 1)
    torch.set_num_threads(before)
    told = {"1": capsys.readouterr().out, "2": other.communicate()[0]}
    assert other.returncode == 0
    for threads, lines in ((threads, text.splitlines()) for threads, text in told.items()):
        assert lines.count(threads) == 2  # before the training and before the evaluation
        for library in ("at::get_num_threads", "omp_get_max_threads", "mkl_get_max_threads"):
            counts = [line.split(":")[-1].strip() for line in lines if line.strip().startswith(library)]
            assert counts in (["1", "1"], []) if library.startswith("mkl") else counts == ["1", "1"], library
    for path in ("models/seed-3.safetensors", "results/predictions.parquet"):
        assert (roots["1"] / path).read_bytes() == (roots["2"] / path).read_bytes(), path
