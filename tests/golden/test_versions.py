"""Numbers that move without their version, which is raised by hand, are found here: a cache would serve the old ones for good.

After a version was raised, ``AVEL_STORE_GOLDENS=1 python -m pytest tests/golden`` stores the new numbers beside it, of what has a new
version alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoders import ENCODERS

HERE = Path(__file__).parent
STORE = "AVEL_STORE_GOLDENS"
FILE = HERE / "versions.json"


def _subjects():
    """The module beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location("golden_subjects", HERE / "golden_subjects.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


subjects = _subjects()
SUBJECTS = subjects.SUBJECTS


def stored() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def moved(found: dict[str, list[float]], golden: dict[str, list[float]]) -> list[str]:
    """What differs, a line for each group of numbers."""
    lines = [f"{name}: not the same groups of numbers" for name in found.keys() ^ golden.keys()]
    for name in found.keys() & golden.keys():
        ours, theirs = np.array(found[name], float), np.array(golden[name], float)
        if ours.shape != theirs.shape:
            lines.append(f"{name}: {len(ours)} numbers instead of {len(theirs)}")
            continue
        reach = subjects.GREY_LEVEL if name == "prepared" else subjects.REACH * max(float(np.abs(theirs).max(initial=0)), 1e-6)
        if not np.abs(ours - theirs).max(initial=0) <= reach:
            lines.append(f"{name}: up to {np.abs(ours - theirs).max():.3g} off; {ours.tolist()} instead of {theirs.tolist()}")
    return lines


@pytest.mark.parametrize("name", SUBJECTS)
def test_numbers_move_with_their_version_only(name, tmp_path):
    subject, golden = SUBJECTS[name], stored().get(name)
    if golden is None or golden["version"] != subject.version:
        assert os.environ.get(STORE), (
            f"{name}: version {subject.version} of {subject.place} has no golden numbers yet (stored: "
            f"{'none' if golden is None else golden['version']}); if the change of the version is meant: {STORE}=1 python -m pytest {HERE}"
        )
        golden = {"version": subject.version, "numbers": subject.numbers(tmp_path)}
        text = json.dumps({**stored(), name: golden}, indent=1, sort_keys=True)
        FILE.write_text(
            re.sub(r",\n\s+(?=[-\d])|\n\s+(?=[-\d\]])", lambda hit: ", " if hit[0][0] == "," else "", text) + "\n", encoding="utf-8"
        )
        return
    lines = moved(subject.numbers(tmp_path), golden["numbers"])
    assert not lines, (
        f"the numbers of {name} have moved, and its version has not: caches would go on serving the old ones. If they are meant to move,"
        f" raise {subject.place} ({subject.version} now), then {STORE}=1 python -m pytest {HERE}\n" + "\n".join(lines)
    )


def test_every_version_that_is_raised_by_hand_has_golden_numbers(repository):
    """A new constant or encoder without any fails here."""
    places = {
        f"{path.relative_to(repository).as_posix()}: {name}"
        for path in (repository / "pipeline").rglob("*.py")
        for name in re.findall(r"^(\w*VERSION)\b.*=\s*\d+", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert places == {subject.place for subject in SUBJECTS.values() if "VERSION" in subject.place}
    assert {name for name in SUBJECTS if name.startswith("encoder ")} == {f"encoder {name}" for name in ENCODERS.names()}
    assert set(stored()) == set(SUBJECTS)


def test_a_number_that_moves_is_seen_and_rounding_is_not():
    golden = {"a": [100.0, 1.0], "prepared": [0.5]}
    assert not moved({"a": [100.009, 1.009], "prepared": [0.519]}, golden)
    assert len(moved({"a": [100.0, 1.011], "prepared": [0.53]}, golden)) == 2
    assert len(moved({"a": [100.0]}, golden)) == 2
    assert moved({"a": [np.nan, 1.0], "prepared": [0.5]}, golden)
