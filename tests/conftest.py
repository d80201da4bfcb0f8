"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from pipeline import closure

settings.register_profile("suite", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("suite")
torch.set_num_threads(1)  # the suite runs in as many processes as there are cores

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media beside the repository; it is no part of the project."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not here")
    return path


@pytest.fixture
def edited(monkeypatch) -> Callable[[str], None]:
    """Makes code look edited: ``edited("pipeline/layers/pooling.py")`` changes what is read of that file, not the file."""

    def edit(path: str) -> None:
        digest = closure.file_sha256
        assert (REPOSITORY / path).is_file()
        monkeypatch.setattr(closure, "file_sha256", lambda file: digest(file)[::-1] if Path(file) == REPOSITORY / path else digest(file))

    return edit
