import threading

from pipeline.features import prefetch


def test_loading_runs_ahead_but_never_far():
    started, lock = [], threading.Lock()

    def load(item):
        with lock:
            started.append(item)
        return -item

    results = []
    for item, result in prefetch.ahead(load, range(50)):
        results.append((item, result))
        assert len(started) <= item + 2 * prefetch.LOADERS + 1
    assert results == [(item, -item) for item in range(50)]
