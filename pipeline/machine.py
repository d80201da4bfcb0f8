"""Record of the machine that made a number: processor, instructions, threads, GPU and versions.

The last digits of floating-point sums depend on all of these, so a trained network does, too. Two records are equal where equal digits can
be expected; a record that was never written stands as :data:`UNKNOWN`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

Machine = Mapping[str, Any]
UNKNOWN: dict[str, Any] = {}
UNKNOWN_TEXT = "unknown machine"
PACKAGES = ("torchvision", "torchaudio", "timm", "numpy", "av")
# Extensions by which oneDNN and MKL choose another kernel than the capability torch names.
EXTENSIONS = frozenset({
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16",
})  # fmt: skip
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")  # what a user can hold these libraries to
CPUINFO = Path("/proc/cpuinfo")


def this_machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Record of this process as it computes now, as plain JSON.

    Args:
        device: where the tensors live. The number of threads, which moves digits on a CPU, is no part of a GPU's record.
    """
    on_gpu = torch.device(device).type == "cuda"
    return {
        **_processor(CPUINFO),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn": bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
        "limits": {name: os.environ[name] for name in LIMITS if os.environ.get(name)},
        "threads": None if on_gpu else torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(torch.device(device)) if on_gpu else None,
        "versions": _versions() | ({"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if on_gpu else {}),
    }


@cache
def _processor(cpuinfo: Path) -> dict[str, Any]:
    """``processor``, one line, and ``extensions``. Virtual machines hide the model's name, and rarely its number."""
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
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def joined(machines: Sequence[Machine], *more: Machine) -> list[dict[str, Any]]:
    """Each machine once, in the order in which they took part."""
    seen: list[dict[str, Any]] = []
    for machine in (*machines, *more):
        if machine not in seen:
            seen.append(dict(machine))
    return seen


def described(machine: Machine) -> str:
    """One line for people: "AMD EPYC 7B13 (AuthenticAMD, family 25, model 1), AVX2, 1 thread, python 3.11.2, torch 2.11.0"."""
    if not machine:
        return UNKNOWN_TEXT
    threads, versions = machine.get("threads"), machine.get("versions") or {}
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
    """Each machine in full, and behind it, where the words are the same, the extensions in which they differ."""
    listed = list(machines)
    texts = [described(machine) for machine in listed]
    return [
        f"{text}, with {' '.join(machine.get('extensions', ()))}" if texts.count(text) > 1 else text
        for text, machine in zip(texts, listed, strict=True)
    ]
