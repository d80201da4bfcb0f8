"""What tests of several rooms share."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from tiny_project import STAGES, TINY, Project
from warm import start, warm_interpreters

from pipeline import closure, yaml_files
from tests.object_store import ObjectStore

gc.disable()  # while all is imported and collected: nothing of it is garbage
os.environ["DVC_TEST"] = "1"  # else DVC starts processes in the background that ask the network for new releases and report its use
settings.register_profile("suite", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parents[1]

SLOW = REPOSITORY / "tests" / "slow.txt"
# Rooms that take long come first, the longest groups before all, so that the workers end together.
ORDER = ["predict", "contrastive", "training", "end_to_end", "howto", "parity", "media", "methods", "features", "encoders"]
TOGETHER = 8  # quick tests of one file that are handed out together: to hand out one takes longer than to run it
CHEAP = {
    "_each_import_once",
    "_each_yaml_once",
    "_one_thread",
    "_quick_children",
    "_quick_starts",
    "films",
    "plain_store",
    "read_audio",
    "read_frames",
    "shared",
    "sound_clip",
}  # shared fixtures that each worker may build


def room_of(item: pytest.Item) -> str:
    return item.path.relative_to(REPOSITORY / "tests").parts[0]


def group_of(item: pytest.Item) -> str | None:
    """Name for the tests that share what a file, a folder or the whole suite builds once; None: any worker can run it."""
    fixtures = itertools.chain.from_iterable(item._fixtureinfo.name2fixturedefs.values())
    shared = [
        fixture.baseid for fixture in fixtures if fixture.scope != "function" and fixture.argname not in CHEAP and "/" in fixture.baseid
    ]
    return min(shared, key=lambda path: (len(path), path), default=None)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs a group; groups and tests start in the order of ORDER; what slow.txt names is marked so."""
    slow = set(SLOW.read_text(encoding="utf-8").splitlines()) if SLOW.is_file() else set()
    quick: Counter[str] = Counter()
    for item in items:
        place = item.nodeid.partition("[")[0].removeprefix("tests/")
        file = place.partition("::")[0]
        is_slow = not slow.isdisjoint((room_of(item), file, place))
        if is_slow:
            item.add_marker(pytest.mark.slow)
        if not any(item.iter_markers("xdist_group")):
            group = group_of(item)
            if group is None and not is_slow:
                group = f"{file}-{quick[file] // TOGETHER}"
                quick[file] += 1
            if group:
                item.add_marker(pytest.mark.xdist_group(group))
    rooms = {room: number for number, room in enumerate(ORDER)}
    items.sort(key=lambda item: rooms.get(room_of(item), len(rooms)))


@contextlib.contextmanager
def same_environment() -> Iterator[None]:
    """Hide the variable in which pytest keeps the name of the test, so that processes kept for one environment serve all tests."""
    name = os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        yield
    finally:
        if name is not None:
            os.environ["PYTEST_CURRENT_TEST"] = name


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Iterator[object]:
    with same_environment():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[object]:
    with same_environment():
        return (yield)


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: no collection of garbage need look through it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # tests make little garbage in cycles, and the search for it took a fiftieth of the suite
    gc.enable()


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The suite runs in as many processes as there are cores."""
    import torch  # here, not above: the process that hands out the tests needs none of its two seconds

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _each_yaml_once() -> Iterator[None]:
    """A suite's text takes a tenth of a second, and many tests read it; each gets objects of its own, and faulty texts are read anew."""
    parse = yaml_files.parsed
    kept = functools.lru_cache(maxsize=256)(lambda text: pickle.dumps(parse(text)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_files, "parsed", lambda text: pickle.loads(kept(text)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_starts() -> Iterator[None]:
    if "pipeline.encoders.weights" not in sys.modules:  # no test module of these needs it, and to import it takes two seconds
        yield
        return
    from tests.quick_starts import quick_starts

    with quick_starts():
        yield


@pytest.fixture(scope="session", autouse=True)
def _each_import_once() -> Iterator[None]:
    """What the repository's files import stays as it is while the suite runs; to look it up takes a twentieth of a second a closure."""
    imported = closure.imported
    kept = functools.cache(lambda path: tuple(imported(path, REPOSITORY)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            closure,
            "imported",
            lambda path, root=REPOSITORY: imported(path, root) if root != REPOSITORY or path.is_absolute() else list(kept(path)),
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_children() -> Iterator[None]:
    from tests.quick_children import quick_children

    with quick_children():
        yield


@pytest.fixture(autouse=True)
def start_at_the_repository() -> None:
    """Every test begins in the same directory, whatever the one before it left."""
    os.chdir(REPOSITORY)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Handle SIGINT as in a terminal: processes that a script starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media beside the repository; it is no part of the project."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not here")
    return path


def for_all_workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """(a directory that the workers of this call share, the process that they end with)."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent, os.getppid()) if "PYTEST_XDIST_WORKER" in os.environ else (base, os.getpid())


@pytest.fixture(scope="session")
def programs(tmp_path_factory, repository) -> Path:
    """`python` and `dvc` without the time that imports take, in a directory for the front of PATH, for all workers; see :mod:`warm`.

    Their seed of `hash()` is another than that of the tiny project's first run: what a test computes again must not depend on it.
    """
    base, owner = for_all_workers(tmp_path_factory)
    root = base / "warm"
    with FileLock(f"{root}.lock"):
        if not root.is_dir():
            root.mkdir()
            start(root, repository, owner)
    return root / "programs"


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory, repository) -> Path:
    """Where the tiny project stands after one `dvc repro` from nothing, with its cache; run once for all workers, and never changed."""
    root = for_all_workers(tmp_path_factory)[0] / "tiny"
    with FileLock(f"{root}.lock"):
        if not (root / "output").is_file():
            shutil.rmtree(root, ignore_errors=True)
            with warm_interpreters(tmp_path_factory.mktemp("first"), repository) as programs:
                project = Project(root, repository, programs)
                project.write_params(TINY)
                project.commit()
                ran, output = project.repro()
            assert ran == STAGES
            (root / "output").write_text(output, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny(tiny_root, repository, programs) -> tuple[Project, dict[str, bytes], str]:
    """(the tiny project after its run, its outs, the output of the run)."""
    project = Project(tiny_root, repository, programs)
    return project, project.outs(), (tiny_root / "output").read_text(encoding="utf-8")


@pytest.fixture
def project(tiny, tmp_path) -> Project:
    """A copy of the tiny project, which a test may change."""
    return tiny[0].copy_to(tmp_path / "tiny")


@pytest.fixture
def edited(monkeypatch) -> Callable[[str], None]:
    """Makes code look edited: ``edited("pipeline/layers/pooling.py")`` changes what is read of that file, not the file."""

    def edit(path: str) -> None:
        digest = closure.file_sha256
        assert (REPOSITORY / path).is_file()
        monkeypatch.setattr(closure, "file_sha256", lambda file: digest(file)[::-1] if Path(file) == REPOSITORY / path else digest(file))

    return edit


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectStore]:
    """The S3 server of this process; tests take ``bucket``."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    server = ObjectStore()
    yield server
    server.stop()


@pytest.fixture
def bucket(object_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The S3 server, well and with an empty bucket ``clips``, and the environment that leads to it; tries follow one another at once."""
    credentials = {"AWS_ACCESS_KEY_ID": "AKIANOBODY", "AWS_SECRET_ACCESS_KEY": "whisper", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**credentials, "AWS_ENDPOINT_URL": object_server.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pipeline.cache.objects.FIRST_DELAY_SECONDS", 0.001)
    object_server.fails = lambda method, path: None
    urllib.request.urlopen(urllib.request.Request(f"{object_server.url}/moto-api/reset", method="POST")).close()
    object_server.make_bucket("clips")
    object_server.requests.clear()
    return object_server


class SmallDisk:
    """A file system of its own, in memory, that a test can fill."""

    def __init__(self, root: Path) -> None:
        self.root, self.filler = root, root / "filler"

    @property
    def free(self) -> int:
        facts = os.statvfs(self.root)
        return facts.f_bavail * facts.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Leave room for ``leave`` bytes."""
        self.empty()
        with open(self.filler, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(1, self.free - leave))

    def empty(self) -> None:
        self.filler.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], SmallDisk]]:
    """Makes a :class:`SmallDisk` of so many MiB; skips where this user may not mount one."""
    mounted: list[Path] = []

    def mount(mebibytes: int) -> SmallDisk:
        root = tmp_path_factory.mktemp("disk")
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(root)], capture_output=True, check=False
            )
        except OSError as error:
            pytest.skip(f"no `mount` here: {error}")
        if done.returncode:
            pytest.skip(f"this user may not mount a file system: {done.stderr.decode().strip()}")
        mounted.append(root)
        return SmallDisk(root)

    yield mount
    for root in mounted:
        subprocess.run(["umount", "--lazy", str(root)], check=False)
