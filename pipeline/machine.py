"""Record of the machine that made a number: processor, instructions, threads, GPU and versions.

The last digits of floating-point sums depend on all of these, and so does a trained network. Equal records mean that equal digits can be
expected; :data:`UNKNOWN` stands for a missing record. The version of this project stands among the others so that every artefact names it.
It is no part of a comparison (:func:`without_project`): DVC compares the code itself.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

Machine = Mapping[str, Any]
UNKNOWN: dict[str, Any] = {}
UNKNOWN_TEXT = "unknown machine"
PROJECT = "avel-pipeline"
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
PACKAGES = ("torchvision", "torchaudio", "timm", "numpy", "av")
# Extensions for which oneDNN and MKL choose other kernels than torch's own capability suggests.
EXTENSIONS = frozenset({
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16",
})  # fmt: skip
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")  # with which a user can limit these libraries
CPUINFO = Path("/proc/cpuinfo")


def this_machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Record the machine of this process, as plain JSON.

    Args:
        device: device of the tensors. A GPU's record leaves out the number of threads, which affects digits only on a CPU.
    """
    on_gpu = torch.device(device).type == "cuda"
    return {
        **_processor(CPUINFO),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn": bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
        "limits": {name: os.environ[name] for name in LIMITS if os.environ.get(name)},
        "threads": None if on_gpu else torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(torch.device(device)) if on_gpu else None,
        "versions": versions() | ({"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if on_gpu else {}),
    }


@cache
def _processor(cpuinfo: Path) -> dict[str, Any]:
    """Describe the processor: ``processor`` (one line) and ``extensions``.

    The model number is included because virtual machines often hide the name but rarely the number.
    """
    facts: dict[str, str] = {}
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = " ".join((facts.get("model name") or platform.processor() or platform.machine()).split())
    numbers = [f"{key.removeprefix('cpu ')} {facts[key]}" for key in ("cpu family", "model") if facts.get(key)]
    words = ", ".join([*([facts["vendor_id"]] if facts.get("vendor_id") else []), *numbers])
    return {"processor": f"{name} ({words})" if words else name, "extensions": sorted(EXTENSIONS & set(facts.get("flags", "").split()))}


@cache
def project_version() -> str:
    """The version of this project: of the pyproject.toml beside this code, else of the installed package.

    The file comes first, because another checkout may be the installed one. "unknown" without either.
    """
    if PYPROJECT.is_file():
        stated = tomllib.loads(PYPROJECT.read_text(encoding="utf-8")).get("project", {})
        if stated.get("name") == PROJECT:
            return str(stated["version"])
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@cache
def versions() -> dict[str, str]:
    """The versions of this project, of Python and of the packages that affect digits."""
    found = {PROJECT: project_version(), "python": platform.python_version(), "torch": str(torch.__version__)}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def joined(machines: Sequence[Machine], *more: Machine) -> list[dict[str, Any]]:
    """List each machine once, in the order in which they took part."""
    seen: list[dict[str, Any]] = []
    for machine in (*machines, *more):
        if machine not in seen:
            seen.append(dict(machine))
    return seen


def without_project(machine: Machine) -> dict[str, Any]:
    """Leave the version of this project out of a record, so that equal machines compare equal whichever version wrote them."""
    stated = machine.get("versions")
    return {**machine, "versions": {name: version for name, version in stated.items() if name != PROJECT}} if stated else dict(machine)


def described(machine: Machine) -> str:
    """Describe a machine in one line, without the version of this project.

    For example "AMD EPYC 7B13 (AuthenticAMD, family 25, model 1), AVX2, 1 thread, python 3.11.2, torch 2.11.0".
    """
    if not machine:
        return UNKNOWN_TEXT
    threads, versions = machine.get("threads"), without_project(machine).get("versions") or {}
    order = {name: place for place, name in enumerate(("python", "torch", *PACKAGES))}
    parts = [
        machine.get("gpu"),
        machine.get("processor"),
        machine.get("instructions"),
        *(f"{name}={value}" for name, value in (machine.get("limits") or {}).items()),
        None if machine.get("onednn", True) else "without oneDNN",
        None if threads is None else f"{threads} thread{'s' if threads != 1 else ''}",
        *(f"{name} {versions[name]}" for name in sorted(versions, key=lambda name: (order.get(name, len(order)), name))),
    ]
    return ", ".join(str(part) for part in parts if part)


def told_apart(machines: Iterable[Machine]) -> list[str]:
    """Describe each machine in full; machines with the same description also get their extensions."""
    listed = list(machines)
    texts = [described(machine) for machine in listed]
    return [
        f"{text}, with {' '.join(machine.get('extensions', ()))}" if texts.count(text) > 1 else text
        for text, machine in zip(texts, listed, strict=True)
    ]
