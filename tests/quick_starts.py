"""Encoders made from a weights file in half of the time: nothing is drawn that the file overwrites, and no file is read twice in a row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from pipeline.encoders import weights

Make = Callable[[], nn.Module]
DRAW = ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "uniform_", "normal_", "trunc_normal_")


def undrawn(make: Make) -> nn.Module:
    """The network with whatever stands in memory where random values belong."""
    with pytest.MonkeyPatch.context() as patch:
        for name in DRAW:
            patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        return make()


@contextmanager
def quick_starts() -> Iterator[None]:
    """Let encoders start so within the block; ``weights.build.__wrapped__`` is the one of the users."""
    build, read = weights.build, weights.read_state
    kept = functools.lru_cache(maxsize=2)(lambda path, _: read(path))

    @functools.wraps(build)
    def built(make: Make, setting: str, known: Any, **options: Any) -> tuple[nn.Module, str]:
        from_file = weights.resolve(setting, known) is not None
        return build((lambda: undrawn(make)) if from_file else make, setting, known, **options)

    def read_once(path: Path) -> weights.State:
        status = path.stat()
        return dict(kept(path.absolute(), (status.st_ino, status.st_size, status.st_mtime_ns)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "build", built)
        patch.setattr(weights, "read_state", functools.wraps(read)(read_once))
        yield
