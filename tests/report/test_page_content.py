"""The page's data, against answers written by hand and plain loops."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.report.page.assemble import embedded
from pipeline.report.page.cells import leaving, shown_number, shown_words, with_code
from pipeline.report.page.content import reliability
from pipeline.report.page.gallery import choose_rows, main_classes, on_grid
from pipeline.sealed import write_sealed
from pipeline.tasks import avel, avvp
from pipeline.tasks.lanes import Lane
from tests.wording import says

BACKGROUND = 3


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
    table = pd.concat([pd.DataFrame({"true": [c, c, 3], "valid": True, "row": row}) for row, c in classes.items()])
    assert main_classes(table, avel, BACKGROUND) == classes
    assert choose_rows(classes, 4) == [10, 13, 14, 15]
    assert choose_rows(classes, 6) == [10, 11, 13, 14, 15, 16]
    assert choose_rows(classes, 99) == sorted(classes)


def test_the_main_class_of_parsing_counts_both_modalities():
    table = pd.DataFrame({"valid": [True, True, True, False], "true_audio": [[0], [0, 2], [], [1]], "true_visual": [[], [], [1], []]})
    assert main_classes(table.assign(row=7), avvp, BACKGROUND) == {7: 0}


def test_embedded_text_cannot_end_its_script_element():
    data = {"name": "</script><!-- <b>", "list": [1, None]}
    text = str(embedded(data))
    assert "<" not in text
    assert json.loads(text) == data


def page_data(world):
    page = (world.out / "index.html").read_text(encoding="utf-8")
    return page, json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_the_page_names_films_used_in_part_beside_the_defects_of_the_annotations(world):
    counts = {"clips": 9, "ok": 9, "health": ["films longer than what is used of them: 1 (a.mp4: 10 of 20 s)"]}
    write_sealed(world.root / "clips" / "summary.json", counts)
    world.report({})
    page, _ = page_data(world)
    assert "<p>Clips: 9, of these 9 ok.</p>" in page
    assert "<li>films longer than what is used of them: 1 (a.mp4: 10 of 20 s)</li>" in page
    assert "<li>clips with several rows: 1 (&lt;a&amp;b&gt;)</li>" in page


def test_the_page_holds_what_evaluate_wrote(world, helpers):
    true = np.array([[0, 0, 3], [1, 3, 3]])
    world.write_run("base", true, {0: [[0, 1, 3], [1, 1, 3]], 1: [[0, 0, 3], [3, 3, 3]]})
    world.report({"base": helpers[1](), "never": helpers[1]()}, baseline="base")
    page, data = page_data(world)
    base, never = data["runs"]
    assert never == {"name": "never", "label": "never", "method": "avel", "task": "avel", "features": "f", "ran": False}
    assert base["classScores"] == {
        "name": "accuracy",
        "values": [75.0, 50.0, None, 83.3],
    }  # means of (50, 100), (100, 0), absent, (2/3, 1) by seed
    assert base["confusion"] == [[3, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 5]]
    assert base["curves"]["validation"] == [[0, 0.5, 0.0, 1.0], [1, 10.5, 10.0, 11.0], [2, 20.5, 20.0, 21.0]]
    assert base["reliability"]["label"]["bins"] == [[0.9, 0.75, 12]]
    assert base["shownSeed"] == 0  # both are as near to the mean: the first
    assert [clip["right"] for clip in data["clips"]] == [{"base": 66.7}, {"base": 66.7}]
    assert says(data["clips"][0]["media"].pop("why"), "no file")
    assert not data["clips"][0]["media"]
    assert "&lt;a&amp;b&gt;" in page
    assert "1 truncated" in page
    assert "Dog <b>" not in page
    assert not any(scheme in page.replace("http://www.w3.org/2000/svg", "") for scheme in ("http:", "https:"))


def test_the_report_is_the_same_every_time(world, helpers):
    share, run, _ = helpers
    world.write_run("base", share(0)[0], {0: share(20)[1], 1: share(24)[1]})
    world.report({"base": run(), "never": run()}, baseline="base", drawn=True)
    first = {path.name: path.read_bytes() for path in world.out.iterdir() if path.is_file()}
    world.report({"base": run(), "never": run()}, baseline="base", drawn=True)
    assert {path.name: path.read_bytes() for path in world.out.iterdir() if path.is_file()} == first
    assert len(first) == 10


def test_a_run_of_a_task_without_labels_and_scores_is_shown_without_them(world, helpers, monkeypatch):
    """A future task whose metrics have no confusion and whose predictions have other columns."""
    share, run, _ = helpers
    monkeypatch.setattr(avel, "CONFIDENT", ())
    world.write_run("base", share(0)[0], {0: share(20)[1]})
    directory = world.root / "runs" / "base"
    document = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    document["seeds"]["test"]["0"] = {"accuracy": 50.0}
    (directory / "metrics.json").write_text(json.dumps(document), encoding="utf-8")
    path = directory / "predictions.parquet"
    pd.read_parquet(path).drop(columns=["scores"]).to_parquet(path)
    world.report({"base": run([0])})
    page, data = page_data(world)
    base = data["runs"][0]
    assert 'id="training"' in page
    assert not any(f'id="{part}"' in page or f"#{part}" in page for part in ("classes", "confusion", "reliability"))
    assert base["classScores"] is None
    assert base["confusion"] is None
    assert base["reliability"] is None
    assert base["mean"] == 50.0


def test_a_short_clip_ends_its_timeline_where_it_ends(world, helpers):
    """Eight clips of five segments; the annotations give 2.5 s for the first."""
    share, run, annotation_rows = helpers
    rows = annotation_rows([None] * 8)
    world.write_index([replace(rows[0], seconds=2.5), *rows[1:]])
    world.write_run("base", share(0)[0], {0: share(20)[1]})
    world.report({"base": run([0])})
    clips = page_data(world)[1]["clips"]
    assert [clip["segments"] for clip in clips] == [3, *[5] * 7]
    assert [len(clip["lanes"]["base"][0]["scores"]) for clip in clips] == [3, *[5] * 7]


def test_columns_leave_a_narrow_window_by_their_worth():
    heads = ["Run", "Method", "Features", "Test, mean ± std (seeds)", "Best seed", "Segment A", "Segment Ao", "Segment V", "Paper",
             "Parameters", "Difference to base [95 %]"]  # fmt: skip
    order = sorted(zip(leaving(heads), heads, strict=True), reverse=True)
    assert [head for turn, head in order if turn] == [
        "Parameters", "Best seed", "Features", "Segment Ao", "Segment V", "Segment A", "Method", "Paper",
    ]  # fmt: skip
    assert leaving(["Run", "Level", "Rule", "A", "V"])[:4] == [0, 0, 0, 0]  # the first score stays


def test_cells_break_link_and_stay_text():
    assert shown_words("a_b <i> [1, 12]", "note-") == (
        'a_<wbr>b &lt;i&gt; [<a href="#note-1">1</a>, <a href="#note-12">12</a>]'
    )  # fmt: skip
    assert shown_words("a_b [1]") == "a_<wbr>b [1]"
    assert shown_number("+0.68 [-3.31, +3.59] (a<b)") == (
        '+0.68 <span class="aside">[-3.31, +3.59]</span> <span class="aside">(a&lt;b)</span>'
    )  # fmt: skip
    assert shown_number("[-3.31, +3.59]") == "[-3.31, +3.59]"
    assert with_code("Run `dvc <x>` again.") == "Run <code>dvc &lt;x&gt;</code> again."


def test_lanes_of_two_grids_share_one_axis():
    """Two runs of one clip, in 3 segments of a second and in 8 of 0.375 s: spans and scores stay at their seconds."""
    seconds = Lane("av", [[0, 2, 1, "true"]], [[1, 3, 1, "right"]], [0.1, 0.5, 0.9])
    shared = on_grid(seconds, 1 / 0.375, 8)
    assert shared.scores == [0.1] * 3 + [0.5] * 2 + [0.9] * 3
    assert [[start * 0.375, end * 0.375, *rest] for start, end, *rest in shared.spans] == [[1.0, 3.0, 1, "right"]]
    short = Lane("av", [], [[0.5, 1.5, 0, "false"]], [0.2, 0.4])
    assert on_grid(short, 1.0, 4) == Lane("av", [], [[0.5, 1.5, 0, "false"]], [0.2, 0.4, 0.0, 0.0])
    assert on_grid(short, 1.0, 2) is short
    assert on_grid(short, 1.0, 1).scores == [0.2]
