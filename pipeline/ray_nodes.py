"""The nodes of a Ray cluster: what they offer, and whether they can do this project's work.

The nodes read the project, its clips and its cache at the same paths as this machine. The code is not sent to them: a cluster that shares
clips shares the project's directory too, since outs and checkpoints lie there, so every node runs the code that stands there. A node with
another copy or other packages is refused by name, since its features would be stored under keys that do not describe them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.closure import ROOT
from pipeline.errors import InputProblems, PipelineError

INSPECT_SECONDS = 180.0  # in which a node must start a process and look at its files
PACKAGES = ("ray", "torch", "torchvision", "torchaudio", "timm", "numpy", "av")  # of which all nodes need the same version


class NodeLost(Exception):
    """A node left the cluster while it had work."""


def alive() -> dict[str, str]:
    """The names of the cluster's nodes by Ray's id."""
    import ray

    return {node["NodeID"]: f"node {node['NodeManagerAddress']} ({node['NodeManagerHostname']})" for node in ray.nodes() if node["Alive"]}


@dataclass(frozen=True)
class Cluster:
    """What the nodes offer.

    Attributes:
        cpus, gpus: of all nodes.
        nodes: their names by Ray's id.
    """

    cpus: int
    gpus: int
    nodes: dict[str, str]

    @classmethod
    def now(cls) -> Cluster:
        import ray

        offered = ray.cluster_resources()
        return cls(int(offered.get("CPU", 0)), int(offered.get("GPU", 0)), alive())

    def check_nodes(self) -> None:
        """Check that all nodes are still there.

        Raises:
            NodeLost: names those that are not.
        """
        there = alive()
        if gone := [name for node, name in self.nodes.items() if node not in there]:
            raise NodeLost(f"lost {', '.join(gone)}")

    def __str__(self) -> str:
        parts = [(len(self.nodes), "node"), (self.cpus, "CPU"), (self.gpus, "GPU")]
        return ", ".join(f"{count} {what}{'s' if count != 1 else ''}" for count, what in parts if count)


@dataclass(frozen=True)
class Place:
    """The project as a node's process enters it, once: in its directory, with the code that the driver has."""

    directory: Path
    code: str

    @classmethod
    def here(cls) -> Place:
        return cls(Path.cwd(), facts_of_node(ROOT)["code"])

    def enter(self) -> None:
        """Go to the project's directory.

        Raises:
            PipelineError: this node, which joined the cluster after the others were checked, has other code.
        """
        _enter(self)


@cache
def _enter(place: Place) -> None:
    os.chdir(place.directory)
    if facts_of_node(ROOT)["code"] != place.code:
        raise PipelineError(f"node {socket.gethostname()}: {ROOT}/pipeline holds another version of the code; bring it up to date")


def check_nodes(address: str, places: Sequence[Path], written: Path | None) -> None:
    """Check that every node has this machine's code, packages and files.

    Raises:
        InputProblems: all that differs, by node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = written / f".nodes-{secrets.token_hex(8)}.partial" if written else None
    seen = [str(path.absolute()) for path in (*places, *([token] if token else []))]
    try:
        if token:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
        here, asked = facts_of_node(ROOT), {}
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        for node, name in alive().items():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            question = ray.remote(facts_of_node).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked[question.remote(ROOT, seen)] = name
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=INSPECT_SECONDS)
        problems = [
            f"{name}: {problem}"
            for answer, name in asked.items()
            for problem in _differences(answer if answer in ready else None, here, token)
        ]
    finally:
        if token:
            token.unlink(missing_ok=True)
    if problems:
        raise InputProblems(f"the Ray cluster at {address}", problems)


def _differences(answer: Any, here: dict[str, Any], token: Path | None) -> Iterator[str]:
    import ray

    if answer is None:
        yield f"it did not answer within {INSPECT_SECONDS:g} s; take it out of the cluster"
        return
    try:
        there = ray.get(answer)
    except ray.exceptions.RayError as error:
        yield f"it cannot start a process for this project: {' '.join(str(error).split())[:300]}"
        return
    if there["code"] is None:
        yield f"there is no {ROOT}/pipeline; the project must lie at the same path on all nodes"
    elif there["code"] != here["code"]:
        yield f"{ROOT}/pipeline holds another version of the code ({there['code'][:12]}, here {here['code'][:12]}); bring it up to date"
    for name, version in here["versions"].items():
        if there["versions"][name] != version:
            yield f"it has {name} {there['versions'][name] or 'not at all'}, this machine {version or 'not at all'}; install the same"
    for path in there["missing"]:
        if token and path == str(token.absolute()):
            yield f"it does not see what this machine writes to {token.parent}; cache.dir must lie on storage that all nodes share"
        else:
            yield f"there is no {path}; it must lie at the same path on all nodes"


def facts_of_node(root: Path, places: Sequence[str] = ()) -> dict[str, Any]:
    """What must be equal on all nodes: the code below ``root``, and versions; and which of the places are missing.

    It is sent to the nodes by value, so it uses no other part of the project.
    """
    digest, files = hashlib.sha256(), sorted(root.glob("pipeline/**/*.py"))
    for file in files:
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    missing = [place for place in places if not Path(place).exists()]
    return {"code": digest.hexdigest() if files else None, "versions": versions, "missing": missing}
