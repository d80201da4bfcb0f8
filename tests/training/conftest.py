"""What the trainings of this room need not look for anew: it took a fifth of a small training."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dvclive.live
import lightning_fabric.fabric
import pytest

opened = functools.lru_cache(dvclive.live.get_dvc_repo)  # of the repository
callbacks = functools.lru_cache(lightning_fabric.fabric._load_external_callbacks)


@pytest.fixture(autouse=True)
def _looked_for_once(repository: Path) -> Iterator[None]:
    """Fabric asks all installed packages for callbacks, and DVCLive opens the repository; below other directories it still does."""
    search = dvclive.live.get_dvc_repo

    def repo_here() -> Any:
        return opened() if Path.cwd() == repository else search()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning_fabric.fabric, "_load_external_callbacks", lambda group: [*callbacks(group)])
        patch.setattr(dvclive.live, "get_dvc_repo", repo_here)
        yield
