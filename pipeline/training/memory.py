"""Memory that a training process frees and asks for again at every step."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, until it ends; returns whether the C library could be told (glibc).

    By default glibc gives blocks of 32 MB and more back to the system at once, and the next tensor of that size is zeroed and mapped in
    page by page again: with the maps of AVE (64 clips: 64 MB a tensor, a hundred of them a step) a good part of a step on a CPU. What is
    held at the peak is held between the steps, too: for a process that does nothing but train.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: macOS, musl, Windows
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
