"""Damaged outs of other stages: the report names the file instead of showing its content."""

import json

import pytest

from pipeline.cache import file_sha256
from pipeline.errors import PipelineError
from pipeline.sealed import write_sealed


def other_mean(content: bytes) -> bytes:
    changed = content.replace(b'"accuracy": 5', b'"accuracy": 9', 1)
    assert changed != content
    return changed


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("runs/base/metrics.json", other_mean),
        ("runs/base/metrics.json", half),
        ("runs/base/curves.csv", lambda content: content.replace(b"10.0", b"90.0", 1)),
        ("runs/base/curves.csv", half),
        ("runs/base/predictions.parquet", half),
        ("index/health.json", lambda content: content.replace(b"rows: 1", b"rows: 7")),
        ("index/classes.json", lambda content: content.replace(b"Bell", b"Ball")),
        ("clips/summary.json", half),
    ],
)
def test_a_damaged_out_is_named_and_nothing_of_it_is_shown(world, helpers, name, change):
    share, run = helpers[:2]
    world.write_run("base", share(0)[0], {0: share(20)[1], 1: share(24)[1]})
    directory = world.root / "runs" / "base"
    document = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    write_sealed(directory / "metrics.json", document | {"curves": file_sha256(directory / "curves.csv")})
    world.report({"base": run()})
    path = world.root / name
    damaged = change(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(PipelineError, match=rf"^{path} is damaged \("):
        world.report({"base": run()})
