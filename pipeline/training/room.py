"""How much memory is free, and what to lower where it runs out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.errors import PipelineError

MEMINFO, OWN_GROUP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# As torch's allocators, CUDA's libraries and the system call it.
_RAN_OUT = re.compile(r"DefaultCPUAllocator|out of memory|_ALLOC_FAILED|Cannot allocate memory", re.IGNORECASE)


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
