"""Disk faults of every library become one sentence; no file is mapped before its space is allocated."""

import ast
import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from pipeline.cache import Cache
from pipeline.disk import disk_fault, name_place
from pipeline.drawing import plt
from pipeline.features.store import Entry, write_store
from pipeline.media.movie import write_clip
from pipeline.publish import publishing, write_text
from tests.wording import says

BIG = np.random.default_rng(0).normal(size=(300, 300))  # 720 kB


def npz(path):
    with open(path, "wb") as stream:
        np.savez(stream, big=BIG)


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["big"] = BIG


def figure(path):
    drawn = plt.figure(figsize=(8, 8))
    drawn.add_subplot().imshow(BIG)
    try:
        drawn.savefig(path, dpi=200, format="png")
    finally:
        plt.close(drawn)


def film(path):
    write_clip(path, np.random.default_rng(0).integers(0, 255, (150, 96, 96, 3), np.uint8), 10, np.zeros(240_000, np.float32), 16_000)


def reserve(path):
    with open(path, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, 10**6)


WRITERS = {
    "text": lambda path: path.write_text("x" * 10**6, encoding="utf-8"),
    "npy": lambda path: np.save(path, BIG),
    "npz": npz,
    "torch": lambda path: torch.save({"big": torch.from_numpy(BIG)}, path),
    "safetensors": lambda path: save_file({"big": torch.from_numpy(BIG)}, path),
    "pandas parquet": lambda path: pd.DataFrame(BIG).to_parquet(path),
    "parquet": lambda path: pq.write_table(pa.table({"big": BIG.ravel()}), path),
    "csv": lambda path: pd.DataFrame(BIG).to_csv(path),
    "hdf5": hdf5,
    "figure": figure,
    "film": film,
    "reserve": reserve,
    "cache": lambda path: Cache(path.parent / "cache").put("decoded", "ab", {"big": BIG}),
    "whole text": lambda path: write_text(path, "x" * 10**6),
}


@pytest.fixture
def file_limit():
    """Limit files of this process to 100 kB, which acts like a quota on any machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fault_of(write, path) -> str:
    with pytest.raises(Exception) as error:
        write(path)
    sentence = disk_fault(error.value, path.parent)
    assert sentence is not None, repr(error.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.fault(22)
def test_a_file_that_may_not_grow_is_told_whoever_writes_it(writer, tmp_path, file_limit):
    sentence = fault_of(WRITERS[writer], tmp_path / "file.npy")
    assert says(sentence, "disk is full" if writer in {"npy", "torch"} else "larger", "free there")  # those keep no number of the error


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.fault(22)
def test_a_full_disk_is_told_whoever_writes_to_it(writer, full_disk):
    sentence = fault_of(WRITERS[writer], full_disk / "file.npy")
    assert sentence.startswith(str(full_disk))
    assert re.search(r"disk is full .*\d (\wB|bytes) free there", sentence)


def test_what_is_missing_is_said_if_it_is_known_how_much_was_needed(tmp_path):
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
    free = shutil.disk_usage(tmp_path).free
    assert says(disk_fault(error, needed=free + 3 * 2**40) or "", "free there", "GB more are needed")
    assert "needed" not in (disk_fault(error, needed=10) or "needed")


@pytest.fixture(scope="module")
def disk(small_disk):
    return small_disk(1)


@pytest.fixture
def full_disk(disk):
    disk.fill(leave=100 * 1024)
    yield disk.root
    for path in sorted(disk.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/a"), ("/x/a ", "permissions")),
        (OSError(errno.EROFS, "Read-only file system", "/x/a"), ("/x/a ", "read-only")),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/x/a"), ("/x/a ", "quota")),
        (OSError(errno.EIO, "Input/output error", "/x/a"), ("/x/a", "input/output error")),
        (OSError(errno.ENOSPC, "No space left on device", "/from", None, "/x/to"), ("/x/to ", "disk is full")),
    ],
)
def test_other_faults_of_disks(error, words):
    assert says(disk_fault(error) or "", *words)
    with pytest.raises(AttributeError) as last:
        try:
            raise error
        finally:
            raise AttributeError("while cleaning up")
    assert disk_fault(last.value) == disk_fault(error)


NO_FAULT = [
    KeyError("a"),
    FileNotFoundError(errno.ENOENT, "No such file", "/x"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    PermissionError("kill"),
    RuntimeError("28 bytes"),
    ValueError("[Errno 28] in the words of a user"),
]


@pytest.mark.parametrize("error", NO_FAULT)
def test_what_is_no_fault_of_a_disk_stays_an_exception(error):
    assert disk_fault(error) is None


def test_an_error_that_names_no_place_gets_one_once():
    error = OSError(errno.ENOSPC, "No space left on device")
    name_place(error, Path("first"))
    name_place(error, Path("second"))
    assert error.filename == "first"
    other = OSError(errno.ENOENT, "No such file")
    name_place(other, "first")
    assert other.filename is None


@pytest.mark.fault(22)
def test_nothing_is_lost_and_nothing_useless_left_when_publishing_fails(tmp_path, file_limit):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old", encoding="utf-8")
    with pytest.raises(OSError) as error, publishing(tmp_path / "out") as directory:
        (directory / "new").write_text("x" * 10**6, encoding="utf-8")
    assert (disk_fault(error.value) or "").startswith(f"{tmp_path / 'out'} ")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "old").read_text(encoding="utf-8") == "old"
    with pytest.raises(OSError), publishing(tmp_path / "out", resume="abc") as directory:
        (directory / "done").write_text("done", encoding="utf-8")
        (directory / "new").write_text("x" * 10**6, encoding="utf-8")
    assert (tmp_path / ".out.abc.partial" / "done").is_file()  # the next run goes on from it


# A write into a mapped file that has no room ends the process with SIGBUS: tried in processes of their own.
STORE = """
    import numpy as np
    from pathlib import Path
    from pipeline.features.store import Entry, write_store
    spec = {"segments": 10, "dtype": "float32", "shapes": {"visual": [49, 512], "audio": [128]}}
    features = {"visual": np.ones((10, 49, 512), "float32"), "audio": np.ones((10, 128), "float32")}
    facts = {"clip": "a", "status": "ok", "valid": [True] * 10, "visual_valid": [True] * 10, "audio_valid": [True] * 10}
    write_store(Path(PLACE), (Entry(facts, features) for _ in range(5)), 5, spec)
"""
MAPS = """
    from pathlib import Path
    from types import SimpleNamespace
    import torch
    from pipeline.contrastive import maps
    from pipeline.contrastive.data import Draw
    maps.load_frames = lambda cache, encoder, draw: torch.ones(len(draw.frames), 3, 8, 8)
    kept = {name: Draw(SimpleNamespace(clip=name), (0,), tuple(range(20))) for name in "abcdef"}
    frozen = lambda frames: torch.ones(len(frames), 32, 8, 8)
    source = maps.MapSource(maps.FrameSource(None, None), frozen, kept, (32, 8, 8), 8, Path(PLACE))
    for _ in source.of(list(kept.values())):
        pass
"""


@pytest.mark.parametrize("script", [STORE, MAPS], ids=["store", "maps"])
def test_a_full_disk_is_an_error_and_no_signal(script, full_disk):
    code = textwrap.dedent(script).replace("PLACE", repr(str(full_disk)))
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment, check=False)
    assert done.returncode == 1, done
    assert "No space left on device" in done.stderr


def test_no_file_is_written_through_a_map(repository):
    """A mapped file that is only read cannot run out of room."""
    for path in sorted((repository / "pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"memmap", "open_memmap"}:
                modes = [
                    each.value for each in (*node.args, *(keyword.value for keyword in node.keywords)) if isinstance(each, ast.Constant)
                ]
                assert "r" in modes, f"{path}:{node.lineno}"


def test_a_shard_written_in_pieces_is_what_numpy_writes(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float16)
    facts = {"status": "ok", "valid": [True] * 2, "visual_valid": [True] * 2, "audio_valid": [True] * 2, "visual_key": "", "audio_key": ""}
    entries = [Entry({"clip": str(number), **facts}, {"visual": one, "audio": one[:, :1]}) for number, one in enumerate(values)]
    write_store(tmp_path, entries, 3, {"segments": 2, "dtype": "float16", "shapes": {"visual": [4], "audio": [1]}})
    for name, expected in {"visual": values, "audio": values[..., :1]}.items():
        mapped = np.lib.format.open_memmap(tmp_path / "expected.npy", "w+", np.float16, expected.shape)
        mapped[:] = expected
        mapped.flush()
        assert (tmp_path / f"{name}-000.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
