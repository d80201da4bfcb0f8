"""requirements.lock fixes what a fresh machine installs, down to the bytes."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def pinned(repository) -> list[tuple[Requirement, list[str]]]:
    """Every entry and its hashes."""
    entries = (repository / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = []
    for entry in filter(None, entries):
        requirement, *hashes = re.split(r"\s+--hash=", entry.strip())
        found.append((Requirement(requirement), hashes))
    return found


def test_every_file_is_known_by_its_hash(pinned):
    """With a hash at one entry pip wants one at each, and refuses a file that has another."""
    assert len(pinned) > 100
    for requirement, hashes in pinned:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), f"{requirement} is no single version"
        assert hashes, f"{requirement} has no hash: make lock"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_what_the_project_asks_for_is_fixed(repository, pinned, python):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "platform_machine": "x86_64"}

    def holds(marker: Marker | None) -> bool:
        return marker is None or marker.evaluate(environment)

    versions = {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in pinned
        if holds(requirement.marker)
    }
    for wanted in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["test"]]):
        if holds(wanted.marker):
            assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), f"{wanted}: make lock"
