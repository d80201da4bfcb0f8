"""The Ray engine on a real cluster of two nodes on this machine: the bytes of the local engine, also when a node is lost."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pandas as pd
import pytest

from pipeline import config, ray_cluster, ray_nodes
from pipeline.cache import Cache
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.engines.on_node import Answer
from pipeline.features.engines.ray import RayEngine
from pipeline.features.extraction import Extraction
from pipeline.ray_cluster import connected
from pipeline.ray_nodes import NodeLost
from pipeline.shards import Shard
from pipeline.training.ray_seeds import train_on_cluster
from pipeline.training.seeds import Seed
from stages import decode
from stages.clips import read_clips
from tests.end_to_end.tiny_project import TINY
from tests.features.test_extraction import SETTINGS, World
from tests.training import side_by_side_toys as toys

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


def test_a_cluster_that_asks_for_a_token_is_shown_one_and_others_are_not(monkeypatch):
    """A token shown to a cluster without makes its workers and this process misunderstand each other."""
    asked = []

    def health(asks, address):
        asked.append(os.environ.get("RAY_AUTH_MODE"))
        return "AuthenticationError: InvalidAuthToken" if asks and asked[-1] != "token" else None

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for asks, modes in ((False, [None]), (True, [None, "token"])):
            asked.clear()
            monkeypatch.setenv("RAY_AUTH_MODE", "noted, to be put back")
            monkeypatch.delenv("RAY_AUTH_MODE")
            monkeypatch.setattr(ray_cluster, "_health", partial(health, asks))
            assert ray_cluster._problem(address) is None
            assert asked == modes


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


def test_a_seed_whose_process_dies_is_tried_again_and_an_error_stops_the_others_with_their_checkpoints(cluster, tmp_path, capfd):
    with pytest.raises(PipelineError, match=r"^run, seed 1: the loss was not finite"):
        train_on_cluster(cluster.address, partial(toys.dying, tmp_path), "run", toys.members(2), tmp_path, None, 1)
    assert re.search(r"run, seed 1: .*SIGKILL.*checkpoint", capfd.readouterr().err)
    assert (tmp_path / "0.checkpoint").exists()
    assert not (tmp_path / ".stop.partial").exists()


@pytest.mark.usefixtures("hears_ctrl_c")
def test_after_ctrl_c_running_seeds_write_checkpoints_and_one_that_waits_for_its_turn_is_given_up(cluster, tmp_path, monkeypatch):
    import ray

    cancel, hear, given_up, running = ray.cancel, Seed.hear, set(), set()

    def heard(seed, kind, content):
        hear(seed, kind, content)
        running.add(seed.name)
        if len(running) == 2 and kind == "bar":  # both nodes are busy
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Seed, "hear", heard)
    monkeypatch.setattr(ray, "cancel", lambda messages: given_up.add(id(messages)) or cancel(messages))
    with pytest.raises(KeyboardInterrupt):
        train_on_cluster(cluster.address, partial(toys.stoppable, tmp_path), "run", toys.members(3), tmp_path, None, 1)
    assert len(given_up) == 1
    stopped = {path.stem for path in tmp_path.glob("*.checkpoint")}
    assert len(stopped) == len(running) == 2
    assert {path.stem for path in tmp_path.glob("*.running")} <= stopped  # a seed may be stopped before it has written its mark


def test_the_bytes_are_those_of_the_local_engine_though_a_node_is_killed(cluster, tiny, tmp_path, monkeypatch, capsys):
    """Decoding and encoding in one pipeline, as `encode` has it; the node is killed when the first clip is encoded."""
    monkeypatch.chdir(tiny[0].root)
    params = config.load(tiny[0].root / "params.yaml")

    def extraction(place, engine):
        _, _, jobs = read_clips(params, Cache(tmp_path / place))
        return Extraction(SETTINGS, jobs, Cache(tmp_path / place), 1, engine)

    def kill():
        while not list(tmp_path.glob("ray/features/*/*.npz")):
            time.sleep(0.01)
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    manifests, stores = {}, {}
    for place, engine in (("ray", partial(RayEngine, cluster.address)), ("local", None)):
        each = extraction(place, engine)
        manifests[place] = each.decode([], params.media)
        (tmp_path / f"{place}-store").mkdir()
        assert "14 clips stored, 0 encoded" in each.run(manifests[place], tmp_path / f"{place}-store")
        stores[place] = {path.name: path.read_bytes() for path in (tmp_path / f"{place}-store").iterdir()}
    killer.join()
    assert "Ray: 2 nodes, 2 CPUs" in capsys.readouterr().out
    assert len(cluster.worker_nodes) == 0
    pd.testing.assert_frame_equal(manifests["ray"], manifests["local"])
    assert stores["ray"] == stores["local"]


class Nodes:
    """Stands in for a cluster whose workers die of one clip, and lose a node once; the others are answered at once."""

    def __init__(self, deadly):
        self.deadly, self.losses, self.asked = deadly, 1, []

    @contextmanager
    def connected(self, *_):
        yield self

    def now(self):
        return self

    def pipeline(self, engine, works, cluster, alone):
        self.asked.append((len(works), alone))
        return works

    def watched(self, works, cluster):
        for work in works:
            if self.losses and work is works[-1]:
                self.losses -= 1
                raise NodeLost("lost node 10.0.0.7")
            if work.job.key != self.deadly:
                yield {"answer": pickle.dumps(Answer(work.job.key, {"status": "ok"}))}


def test_a_clip_that_kills_its_workers_gets_a_status_and_what_a_lost_node_had_is_done_again(tmp_path, monkeypatch):
    jobs = list(World(tmp_path).jobs.values())
    nodes = Nodes(jobs[1].key)
    for name in ("connected", "watched"):
        monkeypatch.setattr(f"pipeline.features.engines.ray.{name if name == 'connected' else '_watched'}", getattr(nodes, name))
    monkeypatch.setattr("pipeline.features.engines.ray.Cluster", nodes)
    monkeypatch.setattr(RayEngine, "_pipeline", lambda *given: nodes.pipeline(*given))
    engine = RayEngine("local")
    verdicts = {job.clip: verdict["status"] for job, verdict in engine.decode_each(jobs, jobs[0].settings)}
    assert verdicts == {"clip0": "ok", "clip1": "crashed", "clip2": "ok", "clip3": "ok"}
    assert nodes.asked == [(4, False), (2, False), (1, True)]
    assert list(engine.lost) == [jobs[1].key]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_the_stages_use_the_engine_of_the_settings(project, tmp_path, monkeypatch, capsys, engine):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    project.write_params({**TINY, "machine": {"engine": engine, "address": "10.0.0.7:6379"}})
    asked = []
    monkeypatch.setattr(RayEngine, "_answers", lambda self, works: asked.append((self.address, len(works))) or iter(()))
    if engine == "ray":
        with pytest.raises(KeyError):
            decode.main(Shard(1, 2))  # no clip got an answer
        assert asked == [("10.0.0.7:6379", 7)]
    else:
        decode.main(Shard(1, 2))
        assert asked == []


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
