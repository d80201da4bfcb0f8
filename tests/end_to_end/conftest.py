"""A small project whose every stage has run."""

from __future__ import annotations

from pathlib import Path

import pytest
from all_stages import PARAMS, STAGES, run_stage, write_params, write_published


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with its cache, to copy; it is never changed."""
    root = tmp_path_factory.mktemp("staged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("AVEL_CACHE", str(root / "cache"))
        write_params(PARAMS)
        write_published(0)
        for module, argument, _ in STAGES:
            assert run_stage(module, argument, patch) == 0
    return root
