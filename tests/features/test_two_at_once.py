"""Two processes or threads at work on the same entry: it is stored once, and each reads it whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.cache import Cache
from pipeline.features.clip_encoder import KIND
from pipeline.features.extraction import Extraction
from tests.features.test_extraction import SETTINGS, World

KEY = "cd" * 32
ENTRY = np.arange(200_000, dtype=np.float32)


def put_and_get(root: Path, times: int) -> None:
    """Write one entry again and again, and check that every reading is whole, whoever wrote it."""
    cache = Cache(root)
    for _ in range(times):
        cache.put(KIND, KEY, {"features": ENTRY}, {"machine": "one"})
        entry = cache.get(KIND, KEY)
        assert entry is not None
        assert np.array_equal(entry[0]["features"], ENTRY)


def together(works: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own, all at once; raise the first error."""
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()


WRITER = """
import sys, numpy as np
from pipeline.cache import Cache
cache, entry = Cache(sys.argv[1]), np.arange(200_000, dtype=np.float32)
for _ in range(40):
    cache.put("features", sys.argv[2], {"features": entry}, {"machine": "one"})
    assert np.array_equal(cache.get("features", sys.argv[2])[0]["features"], entry)
"""


@pytest.mark.fault(24)
def test_processes_that_write_one_entry_at_once_leave_one_whole_entry(tmp_path, repository):
    command = [sys.executable, "-c", WRITER, str(tmp_path), KEY]
    writers = [subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, encoding="utf-8") for _ in range(3)]
    assert [writer.communicate()[1] for writer in writers] == ["", "", ""]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{KEY}.npz"]


@pytest.mark.fault(24)
def test_threads_of_one_process_do_not_write_into_each_others_file(tmp_path):
    together([lambda: put_and_get(tmp_path, 25)] * 4)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{KEY}.npz"]


@pytest.mark.fault(24)
def test_two_extractions_sharing_a_cache_store_every_clip_once(tmp_path):
    World(tmp_path / "alone").extract(tmp_path / "expected")
    world = World(tmp_path / "cache")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    table = pd.DataFrame(world.verdicts)
    one, two = (Extraction(SETTINGS, world.jobs, world.cache, 1) for _ in range(2))
    together([lambda: one.run(table, tmp_path / "one"), lambda: two.run(table, tmp_path / "two")])
    for name in ("one", "two"):
        assert world.bytes(tmp_path / name) == world.bytes(tmp_path / "expected")
        rows = pd.read_parquet(tmp_path / name / "index.parquet")
        assert list(rows["clip"]) == list(dict.fromkeys(rows["clip"])) == [f"clip{number}" for number in range(4)]
    assert len(list((world.cache.root / KIND).rglob("*"))) - len(list((world.cache.root / KIND).iterdir())) == 2 * 4  # clips x modalities


@pytest.mark.fault(24)
def test_only_one_of_two_starts_of_a_stage_writes_the_shards(tmp_path):
    """The other is refused before it opens a shard, so no row is written twice."""
    script = (
        "import sys; from pathlib import Path\nfrom pipeline.stage import only_one, publishing\nfrom pipeline.errors import PipelineError\n"
        "try:\n with only_one('extract-a'), publishing(Path('features'), resume='abc') as work:\n"
        "  (work / 'shard').open('a', encoding='utf-8').write('rows')\n  print('first', flush=True)\n  sys.stdin.readline()\n"
        "except PipelineError as error:\n print(error, flush=True)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tmp_path, "encoding": "utf-8", "env": environment}
    first = subprocess.Popen(command, **pipes)
    assert first.stdout.readline() == "first\n"
    second = subprocess.Popen(command, **pipes)
    assert "extract-a is already running" in second.communicate("\n")[0]
    first.communicate("\n")
    assert first.returncode == 0
    assert (tmp_path / "features" / "shard").read_text(encoding="utf-8") == "rows"
