"""The report's pictures of one test clip, on the trained world."""

import pandas as pd
import pytest
from PIL import Image

from pipeline import config
from pipeline.cache import Cache
from pipeline.report.pictures import choose, pictures, typical_clip
from pipeline.report.results import read_runs
from pipeline.tasks import avel
from stages.clips import read_clips
from stages.paths import INDEX, LIVE, PARAMS, RESULTS


def evaluated(names=("avel", "cace")):
    params = config.load(PARAMS)
    return params, read_runs({name: params.runs[name] for name in names}, RESULTS, LIVE)


def draw(directory, names=("avel", "cace")):
    params, results = evaluated(names)
    cache = Cache(params.cache.place)
    _, manifest, jobs = read_clips(params, cache)
    return pictures(results, INDEX, manifest, jobs, cache, directory), results, manifest


def test_a_clip_of_the_last_attending_run_is_drawn(project, tmp_path):
    written, results, _ = draw(tmp_path)
    assert [path.name for path in written] == ["timeline.png", "attention.png"]
    shown = choose(results)
    assert (shown.result.name, shown.seed, len(shown.lines)) == ("cace", 1, 10)
    assert set(shown.lines["split"]) == {"test"}
    for path in written:
        assert Image.open(path).width > 1000
        assert path.stat().st_size < 300_000
    again = tmp_path / "again"
    again.mkdir()
    assert [path.read_bytes() for path in draw(again)[0]] == [path.read_bytes() for path in written]


def test_without_raw_clips_there_is_no_picture(project, tmp_path):
    params, results = evaluated()
    _, manifest, _ = read_clips(params, Cache(params.cache.place))
    assert choose(results)
    assert pictures(results, INDEX, manifest.iloc[:0], {}, Cache(tmp_path / "none"), tmp_path) == []


def test_no_run_no_picture(project, tmp_path):
    assert draw(tmp_path, ["later"])[0] == []
    assert not list(tmp_path.iterdir())


def test_a_clip_that_is_gone_costs_the_pictures_only(project, tmp_path, capsys, monkeypatch):
    params, results = evaluated()
    _, manifest, _ = read_clips(params, Cache(params.cache.place))
    empty = Cache(tmp_path / "empty")
    assert pictures(results, INDEX, manifest, {}, empty, tmp_path) == []
    assert choose(results).clip in capsys.readouterr().out


@pytest.mark.parametrize(
    ("right", "constant", "expected"),
    [([4, 2, 3], [], 2), ([4, 2, 3, 1], [], 1), ([4, 2, 3], [2], 1), ([2, 2, 2], [], 1), ([4, 1, 2], [0, 1, 2], 2)],
)
def test_the_typical_clip_is_that_of_median_accuracy_where_something_changes(right, constant, expected):
    """Four segments per row, with this many right; rows in ``constant`` have one label throughout."""
    labels = [[0, 0, 0, 0] if row in constant else [0, 0, 1, 1] for row in range(len(right))]
    hits = [[number < count for number in range(4)] for count in right]
    rows = [pd.DataFrame({"row": row, "valid": True, "true": labels[row], "hits": hits[row]}) for row in range(len(right))]
    lines = pd.concat(rows, ignore_index=True)
    lines["predicted"] = lines["true"].where(lines["hits"], 9)
    assert typical_clip(lines, avel) == expected
