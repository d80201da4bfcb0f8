from pathlib import Path

from pipeline.made_with import changed_params, publishable, read_made_with, write_made_with


def test_every_param_that_differs_is_named_with_both_values():
    then = {"settings": {"alpha": 0.10, "recipe": {"epochs": 24, "milestones": [10]}}, "train": {"threads": 1, "compile": False}}
    now = {"settings": {"alpha": 0.1, "recipe": {"epochs": 48, "milestones": (10, 20)}}, "train": {"threads": None, "compile": False}}
    assert changed_params(then, now) == ["recipe.epochs 24 -> 48", "recipe.milestones [10] -> [10, 20]", "train.threads 1 -> –"]
    assert changed_params(then, then) == []
    assert changed_params({"features": {"a": {"dtype": "float16"}}}, {"features": {"b": {"dtype": "float16"}}}) == [
        "features.a.dtype float16 -> –",
        "features.b.dtype – -> float16",
    ]


def test_a_block_that_was_not_recorded_is_not_compared():
    assert changed_params({"train": {"threads": 1}}, {"train": {"threads": 1}, "media": {"frames_per_second": 2.0}}) == []
    assert changed_params({"media": {"frames_per_second": 2.0}}, {}) == ["media.frames_per_second 2 -> –"]


def test_no_folder_of_the_machine_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = {
        "dataset": {"clips": tmp_path / "data" / "clips", "annotations": "/home/alice/ave"},
        "list": [Path("data/raw"), "/a/b", "x/y"],
    }
    expected = {"dataset": {"clips": "data/clips", "annotations": ".../ave"}, "list": ["data/raw", ".../b", "x/y"]}
    assert publishable(params) == expected
    write_made_with(tmp_path, params, {"features": [{"processor": "Xeon"}]})
    assert "alice" not in (tmp_path / "made_with.json").read_text(encoding="utf-8")
    assert read_made_with(tmp_path) == {"params": expected, "machines": {"features": [{"processor": "Xeon"}]}}
    assert read_made_with(tmp_path / "nowhere") == {"params": {}, "machines": {}}
