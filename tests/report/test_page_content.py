"""What the page is fed with: against hand-enumerated answers and plain loops."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.report.page.assemble import embedded
from pipeline.report.page.content import reliability
from pipeline.report.page.gallery import choose, main_classes
from pipeline.report.page.lanes import LANES, avel_lanes, avvp_lanes, spans_of

BACKGROUND = 3


def segments(true, predicted, valid=None, event=None):
    return pd.DataFrame({"true": true, "predicted": predicted, "valid": valid or [True] * len(true), "event": event or [0.5] * len(true)})


def test_every_kind_of_answer_becomes_a_span():
    true = [3, 3, 0, 0, 0, 0, 3, 1]
    said = [3, 2, 2, 0, 0, 3, 3, 1]
    (lane,) = avel_lanes(segments(true, said, event=[0.1, 0.6, 0.7, 0.9, 1.0, 0.4, 0.0, 0.8]), BACKGROUND)
    assert lane["truth"] == [[2, 6, 0, "true"], [7, 8, 1, "true"]]
    assert lane["spans"] == [[1, 2, 2, "false"], [2, 3, 2, "wrong"], [3, 5, 0, "right"], [5, 6, 0, "missed"], [7, 8, 1, "right"]]
    assert lane["scores"] == [0.1, 0.6, 0.7, 0.9, 1.0, 0.4, 0.0, 0.8]


def test_padded_segments_show_nothing():
    (lane,) = avel_lanes(segments([0, 0, 3], [0, 0, 0], valid=[True, True, False], event=[1.0, 1.0, 0.9]), BACKGROUND)
    assert lane["truth"] == [[0, 2, 0, "true"]]
    assert lane["spans"] == [[0, 2, 0, "right"]]
    assert lane["scores"] == [1.0, 1.0, 0.0]


def test_parsing_has_a_lane_for_each_modality_in_which_classes_overlap():
    table = pd.DataFrame({
        "valid": [True, True, True, False],
        "true_audio": [[0], [0, 2], [], [1]], "audio": [[0, 1], [0], [], [1]], "scores_audio": [[0.9, 0.8, 0.1]] * 4,
        "true_visual": [[], [], [1], []], "visual": [[], [], [1], [1]], "scores_visual": [[0.1, 0.25, 0.2]] * 4,
    })  # fmt: skip
    audio, visual = avvp_lanes(table, BACKGROUND)
    assert audio["track"] == "audio"
    assert audio["truth"] == [[0, 2, 0, "true"], [1, 2, 2, "true"]]
    assert audio["spans"] == [[0, 2, 0, "right"], [0, 1, 1, "false"], [1, 2, 2, "missed"]]
    assert audio["scores"] == [0.9, 0.9, 0.9, 0.0]
    assert visual == {"track": "visual", "truth": [[2, 3, 1, "true"]], "spans": [[2, 3, 1, "right"]], "scores": [0.25, 0.25, 0.25, 0.0]}
    assert sorted(LANES["avvp"].events(table, BACKGROUND)) == [0, 0, 1, 2]
    assert main_classes(table.assign(row=7), LANES["avvp"], BACKGROUND) == {7: 0}


def test_equal_neighbours_are_joined_and_others_are_not():
    assert spans_of([(1, "right"), (1, "right"), (1, "wrong"), None, (1, "wrong"), (2, "wrong")]) == [
        [0, 2, 1, "right"],
        [2, 3, 1, "wrong"],
        [4, 5, 1, "wrong"],
        [5, 6, 2, "wrong"],
    ]
    assert spans_of([]) == []


def test_calibration_error_is_that_of_a_plain_loop():
    generator = np.random.default_rng(3)
    confidence = generator.random(500) ** 0.5
    confidence[:2] = [0.0, 1.0]
    right = generator.random(500) < confidence**2
    answer = reliability(confidence, right)
    expected, bins = 0.0, []
    for number in range(10):
        inside = [k for k in range(500) if number / 10 <= confidence[k] < (number + 1) / 10 or (number == 9 and confidence[k] == 1.0)]
        if inside:
            mean = sum(float(confidence[k]) for k in inside) / len(inside)
            share = sum(bool(right[k]) for k in inside) / len(inside)
            bins.append([mean, share, len(inside)])
            expected += len(inside) / 500 * abs(mean - share)
    assert answer["error"] == pytest.approx(100 * expected, abs=0.006)
    assert np.allclose(answer["bins"], bins, atol=1e-4)
    assert reliability(np.array([1.0, 1.0]), np.array([True, True])) == {"bins": [[1.0, 1.0, 2]], "error": 0.0}


def test_the_gallery_takes_each_class_in_turn():
    classes = {10: 0, 11: 0, 12: 0, 13: 1, 14: 3, 15: 2, 16: 2}  # 3: no event
    table = pd.concat([segments([c, c, 3], [0, 0, 0]).assign(row=row, segment=range(3)) for row, c in classes.items()])
    assert main_classes(table, LANES["avel"], BACKGROUND) == classes
    assert choose(classes, 4) == [10, 13, 14, 15]
    assert choose(classes, 6) == [10, 11, 13, 14, 15, 16]
    assert choose(classes, 99) == sorted(classes)


def test_embedded_text_cannot_end_its_script_element():
    data = {"name": "</script><!-- <b>", "list": [1, None]}
    text = str(embedded(data))
    assert "<" not in text
    assert json.loads(text) == data


def page_data(world):
    page = (world.out / "index.html").read_text(encoding="utf-8")
    return page, json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_the_page_holds_what_evaluate_wrote(world, helpers):
    true = np.array([[0, 0, 3], [1, 3, 3]])
    world.write_run("base", true, {0: [[0, 1, 3], [1, 1, 3]], 1: [[0, 0, 3], [3, 3, 3]]})
    world.report({"base": helpers[1](), "never": helpers[1]()}, baseline="base")
    page, data = page_data(world)
    base, never = data["runs"]
    assert never == {"name": "never", "label": "never", "method": "avel", "task": "avel", "features": "f", "ran": False}
    assert base["classAccuracy"] == [75.0, 50.0, None, 83.3]  # means of (50, 100), (100, 0), absent, (2/3, 1) by seed
    assert base["confusion"] == [[3, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 5]]
    assert base["curves"]["validation"] == [[0, 0.5, 0.0, 1.0], [1, 10.5, 10.0, 11.0], [2, 20.5, 20.0, 21.0]]
    assert base["reliability"]["label"]["bins"] == [[0.9, 0.75, 12]]
    assert base["shownSeed"] == 0  # both are as near to the mean: the first
    assert [clip["right"] for clip in data["clips"]] == [{"base": 66.7}, {"base": 66.7}]
    assert data["clips"][0]["media"] == {"why": "no file of this clip"}
    assert "&lt;a&amp;b&gt;" in page
    assert "1 truncated" in page
    assert "Dog <b>" not in page
    assert not any(scheme in page.replace("http://www.w3.org/2000/svg", "") for scheme in ("http:", "https:"))


def test_the_report_is_the_same_every_time(world, helpers):
    share, run, _ = helpers
    world.write_run("base", share(0)[0], {0: share(20)[1], 1: share(24)[1]})
    world.report({"base": run(), "never": run()}, baseline="base")
    first = {path.name: path.read_bytes() for path in world.out.iterdir() if path.is_file()}
    world.report({"base": run(), "never": run()}, baseline="base")
    assert {path.name: path.read_bytes() for path in world.out.iterdir() if path.is_file()} == first
    assert len(first) == 10


def test_a_run_of_a_task_without_labels_and_scores_is_shown_without_them(world, helpers):
    """A task yet to come: its metrics have no confusion, its predictions other columns."""
    share, run, _ = helpers
    world.write_run("base", share(0)[0], {0: share(20)[1]})
    directory = world.root / "runs" / "base"
    document = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    document["seeds"]["test"]["0"] = {"accuracy": 50.0}
    (directory / "metrics.json").write_text(json.dumps(document), encoding="utf-8")
    path = directory / "predictions.parquet"
    pd.read_parquet(path).drop(columns=["scores"]).to_parquet(path)
    world.report({"base": run([0])})
    base = page_data(world)[1]["runs"][0]
    assert base["classAccuracy"] is None
    assert base["confusion"] is None
    assert base["reliability"] is None
    assert base["mean"] == 50.0
