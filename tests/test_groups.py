"""Tests that share what is dear to build run on one worker."""

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
