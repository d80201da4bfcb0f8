import contextlib
import itertools
import queue
import threading
import time

import pytest
import torch

from pipeline.features.lanes import LOADERS, Lanes, Throughput, ahead, as_they_come, load_ahead
from tests.wording import says


def test_loading_runs_ahead_but_never_far():
    started, lock = [], threading.Lock()

    def load(item):
        with lock:
            started.append(item)
        return -item

    results = []
    with Lanes(2) as lanes:
        for item, result in ahead(lambda item: lanes.load(load, item), range(50), 3):
            results.append((item, result))
            assert len(started) <= item + 4
    assert results == [(item, -item) for item in range(50)]

    started.clear()
    for item, result in load_ahead(load, range(50)):
        assert result == -item
        assert len(started) <= item + 2 * LOADERS + 1
    assert sorted(started) == list(range(50))


def test_items_in_the_making_are_loaded_as_they_come_and_never_far_ahead():
    started, more = [], queue.SimpleQueue()

    def load(item):
        started.append(item)
        return -item

    for item in range(3):
        more.put(item)
    with Lanes(1) as lanes:
        results = as_they_come(lambda item: lanes.load(load, item), iter(more.get, None), 2)
        assert [next(results) for _ in range(3)] == [(0, 0), (1, -1), (2, -2)]  # none waits for the fourth
        for item in range(3, 20):
            more.put(item)
        assert next(results) == (3, -3)
        time.sleep(0.05)
        assert started[-1] <= 6
        more.put(None)
        assert len(list(results)) == 16
        with pytest.raises(ZeroDivisionError):
            list(as_they_come(lambda item: lanes.load(load, item), (1 / each for each in (1, 0)), 2))
        endless = (number for number in itertools.count())
        with contextlib.closing(as_they_come(lambda item: lanes.load(load, item), endless, 2)) as results:
            assert next(results) == (0, 0)
        endless.close()  # an error if a thread still ran it


def test_loading_and_encoding_overlap_and_are_timed():
    meeting = threading.Barrier(2, timeout=5)  # passes only if both are at work at once
    with Lanes(2) as lanes:
        both = lanes.load(meeting.wait), lanes.encode(meeting.wait)
        assert {future.result() for future in both} == {0, 1}
        lanes.load(time.sleep, 0.05).result()
        throughput = lanes.throughput(3)
    assert throughput.loading >= 0.05 > throughput.encoding
    assert throughput.clips == 3


def test_every_thread_computes_on_one_core_and_torch_gets_its_threads_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Lanes(2) as lanes:
            assert lanes.load(torch.get_num_threads).result() == lanes.encode(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.fault(30)
def test_an_error_ends_the_run_without_the_work_that_waits():
    done = []
    with pytest.raises(ZeroDivisionError), Lanes(1) as lanes:
        failing = lanes.load(lambda: 1 / 0)
        lanes.load(time.sleep, 0.2)
        for _ in range(5):
            lanes.encode(done.append, 1)
        failing.result()
    assert done == []


def test_the_summary_names_the_bottleneck():
    assert says(str(Throughput(24, 8.0, 3.2, 12.0, 2, 2)), "24 clips", "8.0 s", "3.00 clips/s", "20 % of 2", "75 % of 2", "encode-bound")
    assert says(str(Throughput(24, 8.0, 100.0, 4.0, 16, 1)), "78 % of 16", "50 % of 1", "decode-bound")
