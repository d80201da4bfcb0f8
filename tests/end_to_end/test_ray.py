"""The Ray engine on a real cluster of two nodes on this machine: the bytes of the local engine, also when a node is lost."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

import pytest

from pipeline import config, ray_cluster, ray_nodes
from pipeline.cache import Cache
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.engines.ray import RayEngine
from pipeline.media.job import Job
from pipeline.ray_cluster import connected
from stages import decode, extract
from stages.clips import read_clips
from tests.end_to_end.tiny_project import TINY

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A cluster of two nodes with one CPU each, which notices a lost node soon."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    made = Cluster(initialize_head=True, head_node_args={**node, "_system_config": soon})
    made.add_node(**node)
    yield made
    made.shutdown()


@dataclass(frozen=True)
class Deadly(Job):
    """A clip that brings down every worker of a node that looks at it."""

    @property
    def key(self) -> str:
        if "RAY_RAYLET_PID" in os.environ:
            os._exit(1)
        return super().key


def test_nodes_with_other_code_versions_or_files_are_refused_and_named(cluster, tmp_path, monkeypatch):
    facts, here = ray_nodes.facts_of_node, os.getpid()

    def of_another_version(root, places=()):
        found = facts(root, places)
        return {**found, "code": "0" * 64, "versions": {**found["versions"], "torch": "1.0"}} if os.getpid() == here else found

    monkeypatch.setattr(ray_nodes, "facts_of_node", of_another_version)
    with pytest.raises(InputProblems) as refused, connected(cluster.address, [tmp_path / "absent"], tmp_path):
        pytest.fail("the nodes were taken")
    assert len(refused.value.problems) == 2 * 3
    for node in (
        "node",
        socket.gethostname(),
        "another version of the code",
        "torch",
        "this machine 1.0",
        f"there is no {tmp_path}/absent",
    ):
        assert sum(node in problem for problem in refused.value.problems) >= 2
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_kills_its_workers_gets_a_status_and_ends_nothing(cluster, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny[0].root)
    _, _, jobs = read_clips(config.load(tiny[0].root / "params.yaml"), Cache(tmp_path))
    monkeypatch.setattr("pipeline.features.engines.ray.TRIES", 1)  # with others, and again alone
    some = list(jobs.values())[:3]
    some[1] = Deadly(**{field.name: getattr(some[1], field.name) for field in fields(Job)})
    verdicts = {job.clip: verdict["status"] for job, verdict in RayEngine(cluster.address).decode_each(some, some[0].settings)}
    assert verdicts == {some[0].clip: "ok", some[1].clip: "crashed", some[2].clip: "ok"}


def test_the_stages_publish_the_bytes_of_the_local_engine_though_a_node_is_killed(cluster, project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    project.write_params({**TINY, "machine": {"engine": "ray", "address": cluster.address}})
    before, extraction = project.outs(), RayEngine.encode

    def with_a_loss(self, clips, bar=True):
        """Kill the second node when the first clip is encoded."""

        def kill():
            while not list(tmp_path.glob("features/*/*.npz")):
                time.sleep(0.01)
            cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        took = extraction(self, clips, bar)
        killer.join()
        return took

    decode.main()
    assert "14 clips: 14 ok" in capsys.readouterr().out
    monkeypatch.setattr(RayEngine, "encode", with_a_loss)
    extract.main("second")
    assert "14 clips stored, 14 encoded" in capsys.readouterr().out
    assert len(cluster.worker_nodes) == 0
    after = project.outs()
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.parametrize("answers", [False, True])
def test_an_address_without_a_cluster_is_refused_within_a_bounded_time(answers, monkeypatch):
    monkeypatch.setattr(ray_cluster, "HEALTH_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()
        began = time.monotonic()
        with pytest.raises(PipelineError, match=rf"machine.address: no Ray cluster .*{address}: .*ray start"), connected(address):
            pytest.fail("there is no cluster")
        assert time.monotonic() - began < 60


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"pip install '\.\[ray\]'"), connected("local"):
        pytest.fail("ray is not installed")
