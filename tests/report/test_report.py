"""Tables, metrics and files of the report, against numbers computed by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.report import figures
from pipeline.report.footnotes import departures_of
from pipeline.report.report import experiment_metrics
from pipeline.report.results import RunResult
from tests.wording import one_says, says


@pytest.fixture
def runs(world, helpers):
    """Writes a run of 8 clips x 5 segments with, for each seed, this many of the first segments right."""
    share = helpers[0]

    def write(name, right_by_seed, **more):
        true = share(0)[0]
        world.write_run(name, true, {seed: share(right)[1] for seed, right in right_by_seed.items()}, **more)

    return write


def table_lines(text):
    return {line.split("|")[1].split("[")[0].strip(): line for line in text.splitlines() if line.startswith("| ")}


def test_mean_std_and_paired_difference_are_those_computed_by_hand(world, runs, helpers):
    run = helpers[1]
    runs("base", {0: 20, 1: 24})
    runs("better", {0: 30, 1: 30})
    text = world.report({"base": run(), "better": run()}, baseline="base")
    line = table_lines(text)["base"]
    assert line.startswith("| base | avel | f | **55.00** ± 7.07 (2) | 60.00 (seed 1) | ")
    assert line.endswith(" | 1,234,567 | – |")
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table.loc["better", "difference"] == pytest.approx(20.0)
    assert table.loc["better", "low"] <= 20 <= table.loc["better", "high"]
    assert table.loc["better", "low"] > -1e-9
    assert json.loads((world.out / "metrics.json").read_text(encoding="utf-8")) == {
        "base": {"accuracy": 55.0, "std": 7.07},
        "better": {"accuracy": 75.0, "std": 0.0},
    }
    assert says(text, "Trivial answers", "background 0.00", "oracle class 100.00")
    assert "Paper" not in text  # no run names one, so no column is there to be empty


def test_runs_of_two_tasks_say_which_and_have_the_trivial_answers_of_both(world, runs, helpers):
    run = helpers[1]
    runs("labels", {0: 20, 1: 24})
    runs("starts", {0: 20, 1: 24}, method="avdln")
    path = world.root / "runs" / "starts" / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8")) | {"task": "cml"}
    answers = {"accuracy": 40.0, "a2v": 30.0, "v2a": 50.0, "baseline_first": 12.5, "baseline_last": 37.5, "baseline_chance": 20.0}
    document["seeds"]["test"] = {"0": answers, "1": answers}
    path.write_text(json.dumps(document), encoding="utf-8")
    both = {"labels": run(), "starts": run(method="avdln").model_copy(update={"task": "cml"})}
    text = world.report(both)
    assert text.startswith("| Run | Task | Method | Features | Test")
    assert table_lines(text)["starts"].startswith("| starts | cml | avdln | f | **40.00** ± 0.00 (2) |")
    assert table_lines(text)["labels"].startswith("| labels | avel | avel | f | **55.00** ± 7.07 (2) |")
    of_labels = "Trivial answers on the same clips (avel): background 0.00, oracle class 100.00."
    of_starts = "Trivial answers on the same clips (cml): first 12.50, last 37.50, chance 20.00."
    assert f"{of_labels} {of_starts}\n" in text
    assert of_starts in (world.out / "index.html").read_text(encoding="utf-8")
    assert r"\begin{tabular}{llllr" in (world.out / "table.tex").read_text(encoding="utf-8")
    assert "Task" not in world.report({"labels": run()})


def test_the_figure_of_runs_of_two_tasks_names_task_and_metric(monkeypatch, tmp_path, helpers):
    run, drawn = helpers[1], []
    monkeypatch.setattr(figures.plt, "close", lambda figure: drawn.append(figure.axes[0]))
    labels, parsing = (
        RunResult(name, run([0]), metric, scores=[50.0]) for name, metric in (("labels", "accuracy"), ("parsing", "segment/A"))
    )
    parsing.run = parsing.run.model_copy(update={"task": "avvp"})
    figures.draw_runs([labels, parsing], tmp_path / "both.png")
    figures.draw_runs([labels], tmp_path / "one.png")
    assert [[text.get_text() for text in axes.get_yticklabels()] for axes in drawn] == [["labels (avel)", "parsing (avvp)"], ["labels"]]
    assert [axes.get_xlabel().split(" on test")[0] for axes in drawn] == ["accuracy, segment/A", "accuracy"]
    monkeypatch.undo()
    figures.plt.close("all")


def test_named_comparisons_have_a_table_with_interval_and_seeds(world, runs, helpers):
    run = helpers[1]
    runs("whole", {0: 30, 1: 34})
    runs("part", {0: 28, 1: 24})
    runs("one_seed", {0: 20})
    runs = {"whole": run(), "part": run(), "one_seed": run([0]), "never": run()}
    text = world.report(runs, comparisons={"whole": ["part", "one_seed", "never"]})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| whole |")][1:]
    # 40 segments in all: 75 and 85 % against 70 and 60, and against 50
    assert [cells[:2] for cells in lines] == [["whole", "part"], ["whole", "one_seed"], ["whole", "never"]]
    assert lines[0][2].startswith("+15.00 [")
    assert lines[0][3:] == ["8", "+5.00, +25.00"]
    assert lines[1][2].startswith("+30.00 [")
    assert says(lines[1][4], "+30.00", "other seeds")
    assert lines[2][2:] == ["not run", "–", "–"]
    assert "Paired differences" in (world.out / "index.html").read_text(encoding="utf-8")
    assert "+5.00, +25.00" in (world.out / "table.tex").read_text(encoding="utf-8")


@pytest.mark.fault(39)
def test_a_run_that_was_not_run_says_so_and_shows_nothing_old(world, runs, helpers):
    run = helpers[1]
    runs("done", {0: 20})
    runs("seed_missing", {0: 20})
    runs("seed_dropped", {0: 20, 1: 20})
    runs("other_method", {0: 20})
    runs = {"done": run([0]), "never": run([0]), "seed_missing": run([0, 1]), "seed_dropped": run([0])}
    runs["other_method"] = run([0], method="cace_net")
    text = world.report(runs, baseline="never")
    lines = table_lines(text)
    assert "**50.00** (1)" in lines["done"]
    for name in ("never", "seed_missing", "seed_dropped", "other_method"):
        assert "not run" in lines[name]
        assert "50.00" not in lines[name]
    assert list(json.loads((world.out / "metrics.json").read_text(encoding="utf-8"))) == ["done"]
    assert "not run" in (world.out / "table.tex").read_text(encoding="utf-8")
    assert (world.out / "index.html").read_text(encoding="utf-8").count(">not run<") == 4


def test_a_run_stands_beside_its_paper_with_source_and_departures(world, runs, helpers):
    run = helpers[1]
    runs("ours", {0: 20, 1: 24}, method="cace_net", without_features=["lost1", "lost2"])
    papers = {"ours": "cace_net/AVE supervised", "later": "avel/AVE supervised"}
    methods = {"ours": {"lambda_contrast": 0.4, "recipe": {"epochs": 20}}, "later": {}}
    runs = {"ours": run(method="cace_net"), "later": run()}
    text = world.report(runs, methods, papers=papers, notes={"ours": "My own remark, 5 % | x."})
    lines = table_lines(text)
    assert "| 80.8 | -25.80 |" in lines["ours"]
    assert "| not run | – | – | 72.7 | – |" in lines["later"]
    for words in (
        'CACE-Net (ACM MM 2024), Table 5, row "CACE-Net (ours)", AVE. Features: VGG-like, VGG-19.',
        "best of 200 epochs on the test split",
        "Settings that differ from the defaults of cace_net (defaults in brackets): recipe.epochs 20 (200), lambda_contrast 0.4 (0.6).",
        "2 labelled test clips have no features and are not scored (scored: 8 rows): lost1, lost2.",
        "My own remark, 5 % \\| x.",
    ):
        assert words in text, words
    marked = lines["ours"].split("|")[1]
    numbers = [int(number) for number in marked.split("[")[1].split("]")[0].split(",")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(f"\n[{number}] " in text for number in numbers)
    latex = (world.out / "table.tex").read_text(encoding="utf-8")
    assert "5 \\% | x." in latex
    assert latex.count("{") == latex.count("}")
    assert latex.count(r" \\") == 1 + len(runs)
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table.loc["ours", "to_paper"] == pytest.approx(55.0 - 80.8)
    assert table.loc["later", "paper"] == 72.7
    assert pd.isna(table.loc["later", "mean"])


def test_runs_on_made_features_say_so_and_are_not_set_against_a_paper(world, runs, helpers):
    run = helpers[1]
    for name in ("ours", "made"):
        runs(name, {0: 20, 1: 24}, method="cace_net")
    for name, spec in (("ours", {}), ("made", {"made_by": "python -m pipeline make-features"})):
        (world.root / "runs" / name / "features.json").write_text(json.dumps(spec), encoding="utf-8")
        path = world.root / "runs" / name / "metrics.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        for metrics in document["seeds"]["test"].values():
            metrics["segment/Type@AV"] = 60.0
        path.write_text(json.dumps(document), encoding="utf-8")
    both = {"ours": run(method="cace_net"), "made": run(method="cace_net")}
    for key, column in (("cace_net/AVE supervised", "| 80.8 | {} |"), ("coleaf/LLP weak", "| 62.1 | {} |")):
        text = world.report(both, papers=dict.fromkeys(both, key))
        assert "made features" in next(line for name, line in table_lines(text).items() if name.startswith("made"))
        assert one_says(text.splitlines(), "Made features (python -m pipeline make-features): says nothing of the method.")
        assert text.count(column.format("–")) == 1
    assert "made features" in (world.out / "index.html").read_text(encoding="utf-8")


def test_runs_that_learned_from_labels_which_dense_labels_helped_to_make_say_so(world, runs, helpers):
    run = helpers[1]
    spec = {"labels": {"dense_labels": "thresholds searched on validation (audio)"}}
    for name, streams in (("learned", {"audio": "audio_labels", "visual": "visual_labels"}), ("plain", None)):
        runs(name, {0: 20, 1: 24}, made_with={"params": [{"settings": {"pseudo_labels": streams}}]})
        (world.root / "runs" / name / "features.json").write_text(json.dumps(spec), encoding="utf-8")
    text = world.report({"learned": run(), "plain": run()})
    assert "dense labels" in next(line for name, line in table_lines(text).items() if name.startswith("learned"))
    assert "dense labels" not in next(line for name, line in table_lines(text).items() if name.startswith("plain"))
    assert one_says(text.splitlines(), "labels", "thresholds searched on validation (audio)")


def test_a_run_may_be_said_to_rest_on_dense_labels(world, runs, helpers):
    """Beside what its own labels say, in every table and on the page."""
    run, params = helpers[1], [{"settings": {"pseudo_labels": {"audio": "a", "visual": "v"}}}]
    for name in ("ours", "stated", "both"):
        runs(name, {0: 20}, made_with={"params": params})
    spec = json.dumps({"labels": {"dense_labels": "validation's"}})
    (world.root / "runs" / "both" / "features.json").write_text(spec, encoding="utf-8")
    three = {name: run(seeds=[0]) for name in ("ours", "stated", "both")}
    text = world.report(three, dense_labels={"stated": "UnAV-100's", "both": "UnAV-100's"})
    lines = {name.split(" ")[0]: line for name, line in table_lines(text).items()}
    assert ["dense labels" in lines[name] for name in three] == [False, True, True]
    assert one_says(text.splitlines(), "Dense labels", ": UnAV-100's.")
    assert one_says(text.splitlines(), "Dense labels", ": validation's; UnAV-100's.")
    assert "stated (dense labels)" in (world.out / "index.html").read_text(encoding="utf-8")


def test_departures_are_from_the_defaults_of_the_runs_own_supervision():
    weak = {"supervision": "weak", "recipe": {"epochs": 20, "milestones": [10, 20, 40]}, "video_loss": "soft_margin"}
    assert list(departures_of("cmbs", weak)) == ["recipe.epochs 20 (200)", "video_loss soft_margin (cross_entropy)"]
    assert list(departures_of("cmbs", {"supervision": "full", "alpha": 0.2})) == ["alpha 0.2 (0.1)"]
    assert list(departures_of("avdln", {"margin": 1.0})) == ["margin 1 (2)"]


def test_every_metric_that_a_paper_prints_is_compared(world, runs, helpers):
    run = helpers[1]
    runs("parsing", {0: 20, 1: 24}, method="cace_net")
    path = world.root / "runs" / "parsing" / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for seed, value in (("0", 60.0), ("1", 64.0)):
        document["seeds"]["test"][seed] |= {"segment/Type@AV": value, "event/AV": value - 10}
    path.write_text(json.dumps(document), encoding="utf-8")
    text = world.report({"parsing": run(method="cace_net")}, papers={"parsing": "coleaf/LLP weak"})
    assert "| parsing | segment/Type@AV | **62.00** ± 2.83 (2) | 62.1 | -0.10 | Segment-level (%): T@ |" in text
    assert "| parsing | event/AV | **52.00** ± 2.83 (2) | 52.1 | -0.10 |" in text
    assert "| parsing | segment/Ao | – | 49.3 | – |" in text  # the paper has it, the run has not


def test_training_time_is_shown_only_for_the_very_weights(world, runs, helpers):
    run = helpers[1]
    runs("timed", {0: 20, 1: 24})
    runs("replaced", {0: 20, 1: 24})
    runs("half", {0: 20, 1: 24})
    for name in ("timed", "replaced", "half"):
        world.write_time(name, 0, 100.0)
    world.write_time("timed", 1, 120.0)
    world.write_time("replaced", 1, 120.0, weights="another")
    text = world.report({name: run() for name in ("timed", "replaced", "half")})
    lines = table_lines(text)
    assert "| Training (one seed, cpu) |" in text
    assert lines["timed"].endswith("| 1 min 50 s |")
    assert lines["replaced"].endswith("| – |")
    assert lines["half"].endswith("| – |")


def test_curves_are_means_over_seeds(world, runs, helpers):
    runs("base", {0: 20, 1: 24})
    world.report({"base": helpers[1]()})
    curves = pd.read_csv(world.out / "validation.csv")
    assert curves.to_dict("list") == {"run": ["base"] * 3, "epoch": [0, 1, 2], "value": [0.5, 10.5, 20.5]}


def test_runs_with_no_clip_in_common_have_no_difference(world, runs, helpers):
    runs("base", {0: 20})
    runs("other", {0: 30})
    path = world.root / "runs" / "other" / "predictions.parquet"
    pd.read_parquet(path).assign(row=lambda table: table["row"] + 100).to_parquet(path)
    world.report({"base": helpers[1]([0]), "other": helpers[1]([0])}, baseline="base", gallery=0)
    assert pd.read_csv(world.out / "table.csv")["difference"].isna().all()


def test_a_suite_without_runs_has_a_report_too(world):
    assert world.report({}).startswith("No runs")
    assert json.loads((world.out / "metrics.json").read_text(encoding="utf-8")) == {}
    assert "<h1>Demo</h1>" in (world.out / "index.html").read_text(encoding="utf-8")


def test_exp_show_gets_at_most_a_dozen_columns(helpers):
    def results(count):
        return [RunResult(f"run{n}", helpers[1](), headline="accuracy", scores=[50.0, 52.0]) for n in range(count)]

    def columns(count, shown=None):
        return sum(len(run) for run in experiment_metrics(results(count), shown).values())

    assert [columns(count) for count in (6, 7, 12, 20)] == [12, 7, 12, 12]
    assert experiment_metrics(results(20), ["run19"]) == {"run19": {"accuracy": 51.0, "std": round(float(np.sqrt(2)), 2)}}


def test_other_protocols_have_columns_of_their_own_and_are_not_the_headline(world, runs, helpers):
    run = helpers[1]
    runs("watched", {0: 20, 1: 24}, test_curves={0: [40.0, 61.0, 50.0], 1: [30.0, 58.0, 60.0]}, seen=2)  # 8 clips of 5 segments
    runs("plain", {0: 20, 1: 24})
    text = world.report({"watched": run(), "plain": run()})
    heads = [head.strip() for head in next(line for line in text.splitlines() if line.startswith("| Run")).strip("|").split("|")]
    watched, plain = (
        dict(zip(heads, (cell.strip() for cell in table_lines(text)[run].strip("|").split("|")), strict=True))
        for run in ("watched", "plain")
    )
    assert watched["Test, mean ± std (seeds)"] == plain["Test, mean ± std (seeds)"] == "**55.00** ± 7.07 (2)"
    assert watched["Last epoch"] == "55.00 ± 7.07"
    assert watched["Best test epoch, as published"] == "60.50 ± 0.71"
    assert watched["Without test clips that stand in train"] == "40.00 ± 9.43"  # 10 and 14 of 30
    assert plain["Last epoch"] == plain["Best test epoch, as published"] == plain["Without test clips that stand in train"] == "–"
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table.loc["watched", ["last_epoch_mean", "best_test_epoch_mean", "unseen_mean"]].tolist() == pytest.approx([55.0, 60.5, 40.0])
    assert json.loads((world.out / "metrics.json").read_text(encoding="utf-8"))["watched"] == {"accuracy": 55.0, "std": 7.07}


def test_a_paper_that_chose_its_epoch_on_test_is_compared_at_ours(world, runs, helpers):
    """Not where the paper only quotes the method, or nobody scored test after every epoch."""
    run = helpers[1]
    curves = {0: [40.0, 61.0, 50.0], 1: [30.0, 58.0, 60.0]}
    for name, more in {"own": {"test_curves": curves}, "quoted": {"test_curves": curves}, "unwatched": {}}.items():
        runs(name, {0: 20, 1: 24}, method="cace_net", **more)
    papers = {"own": "cace_net/AVE supervised", "quoted": "cmran/AVE supervised", "unwatched": "cace_net/AVE supervised"}
    text = world.report({name: run(method="cace_net") for name in papers}, papers=papers)
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table["like_for_like"].round(6).fillna(0).to_dict() == {"own": -20.3, "quoted": 0, "unwatched": 0}  # 60.5 - 80.8
    assert "| 80.8 | -25.80 | -20.30 |" in table_lines(text)["own"]
    assert table["test_clips"].tolist() == [8, 8, 8]
    assert "| 60.00 (seed 1) | 8 |" in table_lines(text)["unwatched"]


def test_without_another_protocol_there_is_no_column_of_it(world, runs, helpers):
    runs("plain", {0: 20})
    text = world.report({"plain": helpers[1]([0])})
    assert "Last epoch" not in text
    assert "stand in train" not in text
    assert "Start error, s" in text
