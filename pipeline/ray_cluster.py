"""Connect to a Ray cluster, or start one on this machine that ends with the work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pipeline.closure import ROOT
from pipeline.errors import PipelineError
from pipeline.ray_nodes import Cluster, check_nodes
from pipeline.scratch import Scratch

ANSWER_SECONDS = 10.0  # in which an address must take a connection
HEALTH_SECONDS = 60.0  # in which the cluster there must answer: starting the program that asks takes most of it on a busy machine
STORE_BYTES = 2**31  # most memory for blocks between processes of this machine; more goes to disk
STORE_SHARE = 0.2  # of the free memory
LONGEST_FOLDER = 40  # characters: Ray puts sockets below it, whose paths the system limits to 107
PASSED_ON = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "OMP_WAIT_POLICY")  # they move digits or time


@contextmanager
def connected(asked: str, places: Sequence[Path] = (), written: Path | None = None) -> Iterator[Cluster]:
    """Connect for the length of the block.

    A cluster started for it ends with it, or with this process if that is killed.

    Args:
        asked: ``machine.address``.
        places: files and directories that every node must see.
        written: directory that all nodes must share, such as the cache.

    Raises:
        PipelineError: Ray is not installed, no cluster answers at the address, or it cannot be used.
        InputProblems: nodes that cannot do the work, each with the reason.
    """
    if importlib.util.find_spec("ray") is None:
        raise PipelineError("machine.engine: ray needs the package ray: pip install '.[ray]', or set machine.engine: local")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray starts: nothing goes to the network
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a thread that is late must not start a cluster of its own
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")  # what is wrong comes as an exception
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES of work without a GPU as it is
    address = _address(asked)  # before the import, which reads whether to speak with a token
    import ray

    if ray.is_initialized():
        raise PipelineError("this process is connected to a Ray cluster already; the pipeline connects by itself")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with Scratch("avel-ray-", _short_folder()) if address is None else nullcontext() as folder, _without_native_messages():
        if address:
            settings |= {"runtime_env": {"env_vars": _environment()}}
        else:  # its processes inherit the environment and sys.path of this one
            settings |= {"include_dashboard": False, "object_store_memory": _store_bytes(), "_temp_dir": str(folder)}
        try:
            where = f"machine.address: the Ray cluster at {address}" if address else "a Ray cluster on this machine"
            try:
                ray.init(address or "local", **settings)
            except (RuntimeError, OSError, ValueError) as error:
                raise PipelineError(f"{where}: {' '.join(str(error).split())[:500]}") from error
            if address:
                check_nodes(address, places, written)
            yield Cluster.now()
        finally:
            ray.shutdown()


@contextmanager
def _without_native_messages() -> Iterator[None]:
    """Keep off the terminal what Ray's C++ prints.

    It calls errors what Ray Data does on purpose; what is wrong comes as an exception.
    """
    try:
        sys.stderr.flush()
        native, usual, terminal = sys.stderr.fileno(), sys.stderr, os.dup(2)
    except OSError:  # no stderr of the system
        native = -1
    if native != 2:
        yield
        return
    with open(os.devnull, "wb") as nowhere, open(terminal, "w", encoding=usual.encoding, errors="backslashreplace", buffering=1) as stream:
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = stream
        try:
            yield
        finally:
            stream.flush()
            sys.stderr = usual
            os.dup2(terminal, 2)


def _short_folder() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) <= LONGEST_FOLDER else Path("/tmp")


def _store_bytes() -> int:
    free = min(int(STORE_SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")), STORE_BYTES)
    with suppress(OSError):
        memory = os.statvfs("/dev/shm")  # where the blocks lie; where it is small, as in a container, a larger store would go to disk
        free = min(free, int(0.9 * memory.f_bavail * memory.f_frsize))
    return max(free, 80 * 2**20)  # Ray takes no less


def _environment() -> dict[str, str]:
    """Variables of the processes on the nodes: they import this project, and compute as this process would."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, **{name: os.environ[name] for name in PASSED_ON if name in os.environ}}


def _address(asked: str) -> str | None:
    """HOST:PORT of the cluster to use; None for one of our own.

    Raises:
        PipelineError: no cluster answers there.
    """
    if asked == "local":
        return None
    named = asked if asked != "auto" else os.environ.get("RAY_ADDRESS") or ""
    if named in ("", "auto", "local"):
        found = _started_here()
        return found if found and _problem(found) is None else None
    if problem := _problem(named):
        where = "machine.address" if asked != "auto" else "$RAY_ADDRESS"
        raise PipelineError(
            f"{where}: no Ray cluster can be used at {named}: {problem}; start one there"
            f" (ray start --head --port={named.rpartition(':')[2]}), correct the address, or set machine.address: local"
        )
    return named


def _started_here() -> str | None:
    """The address that the last `ray start` on this machine left."""
    with suppress(OSError):
        return Path("/tmp/ray/ray_current_cluster").read_text(encoding="utf-8").strip() or None
    return None


def _problem(address: str) -> str | None:
    """Why there is no usable cluster; None if there is one. Takes a bounded time."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        return f"nothing answers ({error})"
    problem = _health(address)
    if problem and "auth" in problem.lower() and "RAY_AUTH_MODE" not in os.environ:
        # Since Ray 2.60 `ray start` makes a token and asks for it, but its own `ray.init` and health check do not show it.
        os.environ["RAY_AUTH_MODE"] = "token"
        problem = _health(address)
    return problem


def _health(address: str) -> str | None:
    """What Ray's own health check finds wrong; None if nothing is."""
    asking = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "health-check", "--address", address]
    try:
        answer = subprocess.run(asking, capture_output=True, timeout=HEALTH_SECONDS, check=False, encoding="utf-8", errors="replace")
    except subprocess.TimeoutExpired:
        return f"what answers there is no Ray cluster, or it does not get on ({HEALTH_SECONDS:g} s)"
    return None if answer.returncode == 0 else " ".join((answer.stderr.strip() or "it is not healthy").splitlines()[-1].split())[:300]
