"""The record of a machine: its content, its differences, and its description."""

import importlib.metadata
import json
import tomllib

import pytest
import torch

import pipeline
from pipeline import machine
from pipeline.machine import UNKNOWN, described, joined, this_machine, told_apart, without_project

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC   7B13
flags\t\t: fpu avx2 fma sse2

processor\t: 1
model name\t: another
"""


@pytest.fixture
def _epyc(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO, encoding="utf-8")
    monkeypatch.setattr(machine, "CPUINFO", path)


@pytest.mark.usefixtures("_epyc")
def test_the_record_names_processor_instructions_threads_and_versions(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    record = this_machine()
    assert record["processor"] == "AMD EPYC 7B13 (AuthenticAMD, family 25, model 1)"
    assert record["extensions"] == ["avx2", "fma"]
    assert (record["instructions"], record["limits"]) == ("AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert record["threads"] == torch.get_num_threads()
    assert record["gpu"] is None
    assert record["versions"]["torch"] == torch.__version__
    assert {"python", "torch", "torchvision", "torchaudio", "timm", "numpy", "av"} <= set(record["versions"])
    assert json.loads(json.dumps(record)) == record
    text = described(record)
    assert text.startswith("AMD EPYC 7B13 (AuthenticAMD, family 25, model 1), AVX2, ONEDNN_MAX_CPU_ISA=AVX2, ")
    assert f"python {record['versions']['python']}, torch {torch.__version__}, torchvision " in text
    in_another_order = {**record, "versions": dict(sorted(record["versions"].items()))}
    assert described(in_another_order) == text


def test_whatever_can_move_a_digit_makes_another_record(monkeypatch):
    first = this_machine()
    assert this_machine() == first
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        more = this_machine()
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    limited = this_machine()
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(machine, "versions", lambda: {**first["versions"], "torch": "2.12.0"})
    assert len({json.dumps(record) for record in (first, more, limited, this_machine())}) == 4


def test_a_gpu_is_named_and_its_threads_are_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    record = this_machine("cuda")
    assert (record["gpu"], record["threads"]) == ("NVIDIA H100", None)
    assert "cuda" in record["versions"]
    assert described(record).startswith("NVIDIA H100, ")
    assert "thread" not in described(record)


def test_machines_are_listed_once_in_the_order_in_which_they_took_part():
    a, b = {"processor": "A"}, {"processor": "B"}
    assert joined([], a) == [a]
    assert joined([a], a) == [a]
    assert joined([a], b, a) == [a, b]
    assert described(UNKNOWN) == "unknown machine"


def test_machines_of_one_name_are_told_apart_by_their_extensions():
    old, new = ({"processor": "Xeon", "extensions": extensions} for extensions in (["avx2"], ["amx_tile", "avx2"]))
    assert told_apart([old, new, {"processor": "EPYC"}]) == ["Xeon, with avx2", "Xeon, with amx_tile avx2", "EPYC"]


@pytest.fixture
def _no_memory_of_versions():
    machine.project_version.cache_clear()
    yield
    machine.project_version.cache_clear()


@pytest.mark.usefixtures("_no_memory_of_versions")
def test_the_version_is_that_of_the_checkout_else_of_the_installed_package(tmp_path, monkeypatch, repository):
    stated = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"installed {package}")
    assert (machine.project_version(), pipeline.__version__, this_machine()["versions"]["avel-pipeline"]) == (stated, stated, stated)
    other = tmp_path / "pyproject.toml"  # of a project that holds this package in its own folder
    other.write_text('[project]\nname = "mine"\nversion = "7"\n', encoding="utf-8")
    for place in (other, tmp_path / "none.toml"):
        machine.project_version.cache_clear()
        monkeypatch.setattr(machine, "PYPROJECT", place)
        assert machine.project_version() == "installed avel-pipeline"
    machine.project_version.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert machine.project_version() == "unknown"


def absent(package):
    raise importlib.metadata.PackageNotFoundError(package)


def test_a_version_of_the_project_makes_no_other_machine():
    record = this_machine()
    newer = {**record, "versions": {**record["versions"], "avel-pipeline": "99.0"}}
    before = {**record, "versions": {name: version for name, version in record["versions"].items() if name != "avel-pipeline"}}
    assert without_project(record) == without_project(newer) == without_project(before) == before
    assert described(record) == described(newer) == described(before)
    assert "avel-pipeline" not in described(record)
    assert without_project(UNKNOWN) == UNKNOWN
