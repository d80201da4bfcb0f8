"""Tests that share what is dear to build run on one worker, and those that take long are named as they are called."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("groups")
def test_pytest_xdist_is_told_of_the_groups(request):
    """Versions of pytest and pytest-xdist that do not fit group nothing, without a word."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("in one process there is nothing to group")
    if not request.config.getvalue("loadgroup"):
        pytest.skip("this run distributes its tests otherwise")
    assert request.node.nodeid.endswith("@groups")


def test_all_that_slow_txt_names_is_there(repository):
    tests = repository / "tests"
    named = [line for line in (tests / "slow.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert named == sorted(set(named))
    for file, _, test in (line.partition("::") for line in named):
        assert (tests / file).exists(), file
        assert not test or f"\ndef {test}(" in (tests / file).read_text(encoding="utf-8"), f"{file}::{test}"
