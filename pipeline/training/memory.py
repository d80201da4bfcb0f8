"""Settings for memory that a training process frees and allocates again at every step."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


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
