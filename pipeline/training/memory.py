"""The memory of a training: keep what is freed, measure what is free, say what to lower when it ends."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.errors import PipelineError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
MEMINFO, OWN_GROUP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# As torch's allocators, CUDA's libraries and the system call it.
_RAN_OUT = re.compile(r"DefaultCPUAllocator|out of memory|_ALLOC_FAILED|Cannot allocate memory", re.IGNORECASE)


def keep_freed_memory() -> bool:
    """Let this process keep freed memory until it ends; return whether the C library (glibc) can do so.

    By default glibc returns blocks of 32 MB and more to the system at once, and the next tensor of that size is zeroed and mapped page by
    page again: with the maps of AVE (64 clips: 64 MB a tensor, a hundred tensors a step) a good part of a step on a CPU. The process holds
    its peak memory between steps too, so call this only in a process that does nothing but train.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: macOS, musl, Windows
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def free_memory(device: torch.device) -> int:
    """Measure the bytes that this process could still take, on a GPU or of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [*_machine_free(), *_group_free()]
    return min(limits) if limits else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _machine_free() -> Iterator[int]:
    if MEMINFO.is_file() and (found := re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text(encoding="utf-8"))):
        yield int(found[1]) * 1024


def _group_free() -> Iterator[int]:
    """What each control group around this process (a container, a job of a cluster) leaves it.

    The cache of files counts as free.
    """
    own = re.search(r"^0::/(.*)$", OWN_GROUP.read_text(encoding="utf-8"), re.MULTILINE) if OWN_GROUP.is_file() else None
    if own is None:
        return
    place = GROUPS / own[1]
    for group in (place, *place.parents):
        if not group.is_relative_to(GROUPS):
            break
        try:
            limit = int((group / "memory.max").read_text(encoding="utf-8"))
            used = int((group / "memory.current").read_text(encoding="utf-8"))
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(encoding="utf-8"), re.MULTILINE)
        except (OSError, ValueError):  # no limit here: "max", or the root, which has no such files
            continue
        yield max(0, limit - used + (int(cached[1]) if cached else 0))


@contextmanager
def explaining_memory(name: str, device: torch.device, settings: Sequence[str]) -> Iterator[None]:
    """Turn an error about memory in the block into a sentence that says what to lower.

    Args:
        name: of the run, or of a run's seed.
        settings: what to lower, each with its value, the most helpful first.

    Raises:
        PipelineError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _RAN_OUT.search(str(error)):
            raise
        where = f"the GPU ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "this machine"
        reason = " ".join(str(error).partition("Exception raised from")[0].split())[:300]
        raise PipelineError(
            f"{name}: out of memory on {where}; lower {' or '.join(settings)}, then run again: finished seeds and the last checkpoints are"
            f" kept ({reason or type(error).__name__})"
        ) from None
