"""Interpreters that have the libraries loaded: `dvc` and `python -m MODULE` without the seconds that imports take.

A server loads what the stages import, forgets the project's own modules and waits. Two programs, `python` and `dvc`, hand it their
arguments, environment, directory and streams; it forks, and the fork runs the module with the code of the directory it is called in, as a
new process would. Any other use of `python` gets a real interpreter. A program that is killed takes its fork with it, children and all.

What every stage of a directory imports of the directory's own code takes a third of a second: a fork of the server keeps it loaded for the
stages that follow, until one of these files or the environment changes.

All forks of a server share one seed of `hash()`: compare bytes that two servers made, or a server and a real interpreter.
"""

from __future__ import annotations

import atexit
import copy
import gc
import hashlib
import importlib
import io
import json
import os
import pickle
import runpy
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STAGES = ("plan", "synthesize", "index", "decode", "finetune", "extract", "import_features", "train", "evaluate", "report")
LIBRARIES = [  # what the stages and DVC import while they work
    *(
        "dvclive",
        "jinja2",
        "matplotlib.pyplot",
        "timm.models",
        "lightning_fabric",
        "pyarrow.dataset",
        "pandas.core.arrays.arrow.extension_types",
    ),
    *("dvc.cli.parser", "dvc.repo.graph", "dvc.repo.index", "dvc.repo.experiments.queue.celery", "dvc.compare", "dvc.lock", "dvc.rwlock"),
    *(
        "dvc.data_cloud",
        "dvc.utils.strictyaml",
        "dvc_data.hashfile.db.local",
        "scmrepo.git",
        "dulwich.repo",
        "pygit2",
        "networkx",
        "pytest",
    ),
]
MODULES = [*(f"stages.{stage}" for stage in STAGES), "pipeline.__main__", *LIBRARIES]
OURS = ("pipeline", "stages")
COMMON = "pipeline.config"  # with what it imports it is nearly all that a stage imports
KEPT = 4  # directories whose code stays loaded: one for a worker, and one more
LARGEST_REQUEST = 1 << 17
PROGRAM = """#!{python} -IS
import array, os, socket, sys
arguments = {prefix!r} + sys.argv[1:]
if arguments[:1] != ["-m"] or os.environ.get("OMP_NUM_THREADS") != "1":
    os.execv({python!r}, [{python!r}, *arguments])
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
request = [os.getcwd(), str(len(arguments)), *arguments, *(f"{{name}}={{value}}" for name, value in os.environ.items())]
streams = array.array("i", [0, 1, 2])
server.sendmsg(["\\0".join(request).encode("utf-8", "surrogateescape")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
code = int(server.recv(16) or 1)
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextmanager
def warm_interpreters(directory: Path, repository: Path) -> Iterator[Path]:
    """A directory for the front of PATH, with the programs `python` and `dvc`; the server ends with the block."""
    process = start(directory, repository, os.getpid())
    try:
        yield directory / "programs"
    finally:
        process.kill()
        process.wait()


def start(directory: Path, repository: Path, owner: int) -> subprocess.Popen[bytes]:
    """Write the programs into ``directory / "programs"``; their server ends at the latest with the process ``owner``."""
    address = directory / "server"
    command = [sys.executable, str(Path(__file__)), str(address), str(owner)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as stream:
        assert stream.readline() == b"ready\n", "the server of warm interpreters did not start"
    programs = directory / "programs"
    programs.mkdir()
    for name, prefix in (("python", []), ("dvc", ["-m", "dvc"])):
        (programs / name).write_text(PROGRAM.format(python=sys.executable, prefix=prefix, address=str(address)), encoding="utf-8")
        (programs / name).chmod(0o755)
    return process


def load() -> None:
    """Import all libraries; leave none of the project's own modules, of which each directory has its own."""
    sys.path.remove(str(Path(__file__).parent))
    gc.disable()  # nothing that is imported is garbage
    for name in MODULES:
        importlib.import_module(name)
    forget_ours()
    sys.path.remove(os.environ["PYTHONPATH"])
    parse_once(Path(sys.argv[1]).with_name("parsed"))
    hash_once()
    lock_once()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False  # the libraries' own, torch's operators above all: taking them apart takes each fork a tenth of a second
    gc.collect()
    gc.freeze()  # a fork that looked through all these objects would copy them
    gc.set_threshold(20_000, 10, 10)
    gc.enable()
    assert_no_threads()


def assert_no_threads() -> None:
    threads = {thread.joinpath("comm").read_text(encoding="utf-8").strip() for thread in Path("/proc/self/task").iterdir()}
    others = threads - {Path("/proc/self/comm").read_text(encoding="utf-8").strip(), "jemalloc_bg_thd"}  # jemalloc prepares for forks
    assert not others, f"libraries started threads, of which no fork would have any: {others}"


def forget_ours() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def parse_once(parsed: Path) -> None:
    """Let DVC parse no text twice, nor one that it wrote itself, and let C write its lock: half of its time goes there.

    Args:
        parsed: directory for the parsed documents, which all forks share.
    """
    serialize, strictyaml = (importlib.import_module(f"dvc.utils.{name}") for name in ("serialize._yaml", "strictyaml"))
    yaml = importlib.import_module("yaml")
    parse, dump = serialize.parse_yaml, serialize._dump
    parsed.mkdir()

    def place(text: str, typ: str) -> Path:
        return parsed / f"{typ}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"

    def keep(path: Path, document: object) -> None:
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_bytes(pickle.dumps(document))
        part.rename(path)

    def parse_new(text: str, path: str, typ: str = "safe") -> object:
        kept = place(text, typ)
        if not kept.exists():
            keep(kept, parse(text, path, typ))
        return pickle.loads(kept.read_bytes())

    def dump_and_keep(document: dict, stream: io.TextIOBase) -> None:
        if "schema" in document or "cmd" in document:  # dvc.lock; an entry of the cache of runs
            plain = json.loads(json.dumps(document))
            text = yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False)
            keep(place(text, "safe"), plain)
        else:
            dump(document, written := io.StringIO())
            text = written.getvalue()
        stream.write(text)
        keep(place(text, "rt"), document)  # with the comments and the order of "rt"

    serialize.parse_yaml, strictyaml.parse_yaml, serialize._dump = parse_new, parse_new, dump_and_keep


def hash_once() -> None:
    """Let a command of DVC hash a dependency again only if its file changed: it asks six times for each one of a stage."""
    dependency = importlib.import_module("dvc.dependency.base").Dependency
    build = dependency._build
    known: dict[object, tuple] = {}

    def build_new(self: object, odb: object, path: str, *arguments: object, **options: object) -> tuple:
        try:
            status = os.stat(path)
        except OSError:
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            return build(self, odb, path, *arguments, **options)
        key = path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if key not in known:
            known[key] = build(self, odb, path, *arguments, **options)
        odb, meta, content = known[key]
        return odb, copy.copy(meta), content

    dependency._build = build_new


def lock_once() -> None:
    """Let DVC note in its file of locks only what it does not hold already: it notes the paths of a stage eight times over."""
    module = importlib.import_module("dvc.rwlock")
    importlib.import_module("dvc.repo.experiments.utils")  # keeps the lock as it is for experiments
    lock, held = module.rwlock, []

    @contextmanager
    def lock_new(directory: str, fs: object, command: str, read: list[str], write: list[str], hardlink: bool) -> Iterator[None]:
        if any(write_held.issuperset(write) and (read_held | write_held).issuperset(read) for read_held, write_held in held):
            yield
            return
        with lock(directory, fs, command, read, write, hardlink):
            held.append((set(read), set(write)))
            try:
                yield
            finally:
                held.pop()

    module.rwlock = lock_new


def serve(address: str, owner: int) -> list[str]:
    """Answer programs until the process ``owner`` ends; in each fork that is to run one, returns its arguments."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    print("ready", flush=True)
    kept: dict[object, socket.socket] = {}
    ended = os.pidfd_open(owner)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(listener, select.POLLIN)
    while True:
        if ended in dict(poll.poll()):
            os._exit(0)
        connection, _ = listener.accept()
        request, streams, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 3)
        descriptors = [connection.detach(), *streams]
        code = code_of(request) if request else None
        if code and code not in kept:
            for oldest in list(kept)[: 1 - KEPT or None]:
                kept.pop(oldest).close()  # which ends that fork
            kept[code], fork = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if not os.fork():
                for end in (listener, *kept.values()):
                    end.close()
                for descriptor in descriptors:
                    os.close(descriptor)
                return serve_directory(request, fork)
            fork.close()
        if code:
            kept[code] = kept.pop(code)  # the last one used stands last
            socket.send_fds(kept[code], [request], descriptors)
        elif request and (program := answer(request, descriptors, [listener, *kept.values()])):
            return program
        for descriptor in descriptors:
            os.close(descriptor)


def read(request: bytes) -> tuple[str, list[str], list[str]]:
    """(directory, arguments, environment)."""
    directory, count, *rest = request.decode("utf-8", "surrogateescape").split("\0")
    return directory, rest[: int(count)], rest[int(count) :]


def code_of(request: bytes) -> object:
    """What the modules that a module of ours imports are made of: the files of its directory, and the environment; else None."""
    directory, arguments, environment = read(request)
    if arguments[1].partition(".")[0] not in OURS:
        return None
    files = [file for room in OURS for file in Path(directory, room).rglob("*.py")]
    facts = [(file, status.st_ino, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    return directory, frozenset(facts), frozenset(line for line in environment if not line.startswith("DVC_"))  # the stage's name


def serve_directory(request: bytes, server: socket.socket) -> list[str]:
    """Answer the programs of one directory with its common modules loaded, until the server closes its end."""
    directory, _, environment = read(request)
    enter(directory, environment)
    with suppress(BaseException):  # what is wrong with them the program itself says
        importlib.import_module(COMMON).Params.model_rebuild()  # else every stage does it when it reads its params
    if COMMON not in sys.modules:
        forget_ours()
    os.chdir("/")
    gc.collect()
    gc.freeze()
    assert_no_threads()
    while True:
        request, descriptors, _, _ = socket.recv_fds(server, LARGEST_REQUEST, 4)
        if not request:
            os._exit(0)
        if program := answer(request, descriptors, [server]):
            return program
        for descriptor in descriptors:
            os.close(descriptor)


def answer(request: bytes, descriptors: list[int], ends: list[socket.socket]) -> list[str] | None:
    """Fork a process for the request; what it is to run is returned there, and nothing here.

    Args:
        descriptors: the connection to the program, and its streams.
        ends: sockets that are not the process's.
    """
    if os.fork():
        return None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for end in ends:
        end.close()
    connection, *streams = descriptors
    worker = os.fork()
    if worker:
        for descriptor in (0, 1, 2, *streams):
            os.close(descriptor)
        watch(worker, socket.socket(fileno=connection))
    os.close(connection)
    os.setsid()
    for stream, descriptor in enumerate(streams):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    directory, arguments, environment = read(request)
    enter(directory, environment)
    return arguments


def enter(directory: str, environment: list[str]) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(line.split("=", 1) for line in environment)
    if sys.path[0] != os.getcwd():
        sys.path.insert(0, os.getcwd())


def watch(worker: int, connection: socket.socket) -> None:
    """Tell the program how its worker ended; a program that is gone takes its worker with it."""
    ended = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(connection, select.POLLIN)
    if ended not in dict(poll.poll()):
        os.killpg(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    try:
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def leave(module: str) -> None:
    """Run the module, and end as an interpreter does but for taking all of its objects apart, which would copy what the server holds."""
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    load()
    _, module, *arguments = serve(sys.argv[1], int(sys.argv[2]))
    sys.argv = [module, *arguments]
    leave(module)
