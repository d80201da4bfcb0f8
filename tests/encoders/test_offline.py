"""Nothing is downloaded by an import, and nothing is asked of any network where weights are missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import importlib, os, pkgutil, socket, subprocess, sys, urllib.request

def refuse(*arguments, **_):
    raise AssertionError(f"asked for {arguments}")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = urllib.request.urlopen = refuse
os.system = refuse
import pipeline, stages
started = []
popen = subprocess.Popen.__init__
subprocess.Popen.__init__ = lambda self, command, *rest, **more: (started.append(command), popen(self, command, *rest, **more))[1]
names = [module.name for room in (pipeline, stages) for module in pkgutil.walk_packages(room.__path__, room.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
fetching = [command for command in started if any(word in str(command) for word in ("wget", "curl", "http"))]
assert not fetching, fetching

from pipeline.encoders import create
from pipeline.errors import PipelineError
words = []
for name in ("vggish", "cnn14", "yamnet", "resnet50"):
    try:
        create(name)
        raise SystemExit(f"{name} without a file")
    except PipelineError as error:
        words.append(str(error))
print(len(names), *words, sep="\\n")
"""


@pytest.mark.fault(29)
def test_every_module_is_imported_and_missing_weights_are_reported_without_a_network(repository, tmp_path):
    """The error has the file, where it was looked for, and what gets it."""
    environment = {
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
        "PATH": "/nowhere",
        "MPLCONFIGDIR": str(tmp_path),
    }
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    count, *words = done.stdout.splitlines()
    assert int(count) > 150
    assert len(words) == 4
    for message in words:
        assert str(tmp_path / "models/pretrained") in message
        assert "python -m pipeline weights get" in message
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".pth", ".pt", ".safetensors", ".npz"}]
