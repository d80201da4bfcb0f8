"""Stages that several processes share, in the environment that torchrun gives each, against the same stages in one process."""

from __future__ import annotations

import copy
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from tiny_project import TINY

from tests.wording import says

TUNED = {
    "visual": {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32},
    "audio": {"encoder": "hear", "module": str(Path(__file__).parents[1] / "encoders/data/tiny_hear.py")},
    "train": "both", "width": 8, "segments": 2, "batch_norm": "frozen", "learning_rate": 0.1, "head_learning_rate": 0.01,
    "epochs": 2, "batch_size": 4, "device": "cpu", "threads": 1,
}  # fmt: skip


def together(projects, *command):
    """(exit code, output) of a command in as many processes, the first of them in the first project ..."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(len(projects))}
    started = [
        subprocess.Popen(
            command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            env={**project.environment, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(len(projects))},
        )
        for rank, project in enumerate(projects)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in started]
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def test_seeds_of_a_run_trained_by_two_processes_have_the_bytes_of_one(project, tiny, tmp_path):
    def trained(outs):
        return {path: content for path, content in outs.items() if path.startswith("models/runs/avel_first/")}

    shutil.rmtree(project.root / "models/runs/avel_first")
    of_first, of_second = together([project, project], "python", "-m", "stages.train", "avel_first")
    assert (of_first[0], of_second[0]) == (0, 0), of_first[1] + of_second[1]
    assert says(of_first[1], "seed 0: trained")
    assert says(of_second[1], "seed 1: trained")
    assert trained(project.outs()) == trained(tiny[1])
    (code, message), *_ = together([project] * 3, "python", "-m", "stages.train", "avel_first")
    assert code == 1
    assert says(message, "3 processes", "2 seeds")


def test_an_encoder_tuned_by_two_processes_is_that_of_one_and_the_first_alone_writes(project, tmp_path):
    params = {**copy.deepcopy(TINY), "finetune": {"alone": TUNED, "shared": {**TUNED, "devices": 2}}}
    project.write_params(params)
    project.run("python", "-m", "stages.finetune", "alone")
    of_first, of_second = together([project, project], "python", "-m", "stages.finetune", "shared")
    assert (of_first[0], of_second[0]) == (0, 0), of_first[1] + of_second[1]
    assert says(of_first[1], "finetune shared: ", "8 training clips")
    assert "finetune shared" not in of_second[1]
    alone, shared = (project.root / "models/encoders" / name for name in ("alone", "shared"))
    assert {path.name for path in shared.iterdir()} == {path.name for path in alone.iterdir()}
    for name in ("encoder.safetensors", "audio/encoder.safetensors", "heads.safetensors"):
        one, two = load_file(alone / name), load_file(shared / name)
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=f"{name} {key}")
    losses = [pd.read_csv(directory / "curve.csv")["train/loss"] for directory in (alone, shared)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)

    (code, message), *_ = together([project] * 2, "python", "-m", "stages.finetune", "alone")
    assert code == 1
    assert says(message, "2 processes", "finetune.alone.devices is 1")
    other = project.copy_to(tmp_path / "other")
    other.write_params({**params, "finetune": {"shared": {**params["finetune"]["shared"], "learning_rate": 0.2}}})
    for code, message in together([project, other], "python", "-m", "stages.finetune", "shared"):
        assert code == 1
        assert says(message, "processes 1 (", "other code, settings or data")
