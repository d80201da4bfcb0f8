"""The report's remarks on the machines that made its numbers, and on numbers older than params.yaml."""

import json

import pandas as pd
import pytest

from pipeline.report.provenance import news, read_sentence
from tests.wording import each_says

A = {"processor": "Xeon", "instructions": "AVX512", "threads": 1, "versions": {"torch": "2.11.0"}}
B = {"processor": "EPYC", "instructions": "AVX2", "threads": 1, "versions": {"torch": "2.11.0"}}
A_TEXT, B_TEXT = "Xeon, AVX512, 1 thread, torch 2.11.0", "EPYC, AVX2, 1 thread, torch 2.11.0"
PARAMS = {"dataset": {"kind": "ave"}, "settings": {"alpha": 0.1, "recipe": {"epochs": 24}}, "train": {"threads": 1}}


def made(training, evaluation=A, params=PARAMS, **works):
    return {"params": [params], "machines": {**works, "training": training, "evaluation": [evaluation]}}


@pytest.fixture
def runs(world, helpers):
    def write(name, made_with=None, seeds=(0, 1)):
        true, predicted = helpers[0](20)
        world.write_run(name, true, {seed: predicted for seed in seeds}, made_with=made_with)

    return write


def line_of(text, name):
    return next(line for line in text.splitlines() if line.startswith(f"| {name}"))


def notes_of(text, name):
    text = text.split("\n| Run | Against")[0]  # every table numbers its own notes
    numbers = line_of(text, name).split("|")[1].split("[")[1].split("]")[0].split(", ")
    return [line.split("] ", 1)[1].strip() for line in text.splitlines() for n in numbers if line.startswith(f"[{n}] ")]


def test_one_machine_is_one_line_and_no_note(world, runs, helpers):
    run = helpers[1]
    for name in ("base", "other"):
        runs(name, made({"0": [A], "1": [A]}, features=[A]))
    text = world.report({"base": run(), "other": run()})
    assert f"\nMade on: {A_TEXT}.\n" in text
    assert line_of(text, "base").startswith("| base | ")
    assert f"<p>Made on: {A_TEXT}.\n</p>" in (world.out / "index.html").read_text(encoding="utf-8")
    assert read_sentence(world.out) == (f"Made on: {A_TEXT}.", [], {})


def test_one_machine_for_each_work_is_no_mixture(world, runs, helpers):
    for name in ("base", "other"):
        runs(name, made({"0": [B], "1": [B]}, evaluation=B, features=[A]))
    text = world.report({"base": helpers[1](), "other": helpers[1]()})
    assert f"\nMade on: {A_TEXT} (features); {B_TEXT} (training, evaluation).\n" in text
    assert "mix" not in text


def test_runs_and_seeds_of_several_machines_are_marked_with_which(world, runs, helpers):
    run = helpers[1]
    runs("base", made({"0": [A], "1": [A]}))
    runs("other", made({"0": [B], "1": [B]}))
    runs("seeds", made({"0": [A], "1": [B]}))
    runs("resumed", made({"0": [A, B], "1": [A]}))
    text = world.report({name: run() for name in ("base", "other", "seeds", "resumed")})
    assert "mix machines" in text
    assert "(training).\n" in text
    assert each_says(notes_of(text, "base"), [("Training", A_TEXT)])
    assert each_says(notes_of(text, "other"), [("Training", B_TEXT)])
    assert each_says(notes_of(text, "seeds"), [("Training", "mixed", "seed 0", A_TEXT, "seed 1", B_TEXT)])
    assert each_says(notes_of(text, "resumed"), [("Training", "mixed", "seed 0", A_TEXT, B_TEXT, "seed 1", A_TEXT)])
    assert "mix machines" in (world.out / "index.html").read_text(encoding="utf-8")
    sentence, mixed, _ = read_sentence(world.out)
    assert "mix machines" in sentence
    assert mixed == ["training"]


def of(version, machine=A):
    return {**machine, "versions": {**machine["versions"], "avel-pipeline": version}}


def test_the_version_of_the_project_is_named_and_mixes_nothing(world, runs, helpers):
    run = helpers[1]
    runs("base", made({"0": [A, of("1.0")], "1": [of("1.0")]}, evaluation=of("2.0"), features=[A]))  # resumed by the first that records it
    runs("other", made({"0": [of("2.0")], "1": [A]}, evaluation=of("2.0"), features=[A]))
    text = world.report({"base": run(), "other": run()})
    by = "avel-pipeline 1.0 and 2.0 (training); avel-pipeline 2.0 (evaluation)"
    assert f"\nMade on: {A_TEXT}. Made by: {by}.\n" in text
    assert line_of(text, "base").startswith("| base | ")
    assert read_sentence(world.out) == (f"Made on: {A_TEXT}. Made by: {by}.", [], {})
    runs("elsewhere", made({"0": [of("1.0", B), of("2.0", B)], "1": [of("1.0", A)]}, evaluation=of("2.0")))
    text = world.report({"elsewhere": run()})
    assert each_says(notes_of(text, "elsewhere"), [("Training mixed", f"seed 0 on {B_TEXT}", f"seed 1 on {A_TEXT}")])
    assert "mix machines" in text
    assert "(training). Made by: avel-pipeline 1.0 and 2.0 (training); avel-pipeline 2.0 (evaluation).\n" in text


def test_one_version_everywhere_is_named_once(world, runs, helpers):
    runs("base", made({"0": [of("1.0")], "1": [of("1.0")]}, evaluation=of("1.0")))
    assert f"\nMade on: {A_TEXT}. Made by: avel-pipeline 1.0.\n" in world.report({"base": helpers[1]()})


@pytest.mark.parametrize("change", [{"threads": 2}, {"versions": {"torch": "2.12.0"}}, {"processor": "another"}, {"gpu": "H100"}])
def test_another_version_or_number_of_threads_is_another_machine(world, runs, helpers, change):
    runs("base", made({"0": [A], "1": [{**A, **change}]}))
    assert "mix machines" in world.report({"base": helpers[1]()})


def test_a_feature_set_of_two_machines_is_a_mixture(world, runs, helpers):
    runs("base", made({"0": [A], "1": [A]}, features=[A, B]))
    text = world.report({"base": helpers[1]()})
    assert "(features)." in text
    assert each_says(notes_of(text, "base"), [("Features", A_TEXT, B_TEXT)])


def test_runs_of_an_earlier_version_are_of_an_unknown_machine(world, runs, helpers):
    runs("old")
    assert "Made on: unknown machine.\n" in world.report({"old": helpers[1]()})
    runs("new", made({"0": [A], "1": [A]}))
    text = world.report({"old": helpers[1](), "new": helpers[1]()})
    assert each_says(notes_of(text, "old"), [("Training", "unknown machine")])
    assert each_says(notes_of(text, "new"), [("Training", A_TEXT)])


def test_a_run_made_with_other_params_is_marked_with_what_changed(world, runs, helpers):
    run = helpers[1]
    runs("base", made({"0": [A], "1": [A]}))
    runs("same", made({"0": [A], "1": [A]}))
    today = {"dataset": {"kind": "ave"}, "settings": {"alpha": 0.1, "recipe": {"epochs": 48}}, "train": {"threads": 2}}
    text = world.report({"base": run(), "same": run()}, today={"base": today, "same": PARAMS}, comparisons={"same": ["base"]})
    assert each_says(notes_of(text, "base (stale)"), [("stale", "recipe.epochs 24 -> 48", "train.threads 1 -> 2", "`dvc repro`")])
    assert line_of(text, "same").startswith("| same | ")
    assert "| same | base (stale) | " in text
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table.loc["base", "stale"] == "recipe.epochs 24 -> 48; train.threads 1 -> 2"
    assert pd.isna(table.loc["same", "stale"])
    # DVC shows these beside today's params
    assert list(json.loads((world.out / "metrics.json").read_text(encoding="utf-8"))) == ["same"]
    assert pd.read_csv(world.out / "runs.csv")["run"].tolist() == ["same"]
    assert "base (stale)" in (world.out / "index.html").read_text(encoding="utf-8")


def test_params_that_were_not_recorded_are_not_compared(world, runs, helpers):
    runs("old")
    assert "stale" not in world.report({"old": helpers[1]()}, today={"old": PARAMS})
    runs("half", made({"0": [A], "1": [A]}, params={"settings": PARAMS["settings"]}))
    assert "stale" not in world.report({"half": helpers[1]()}, today={"half": PARAMS})


def test_an_empty_test_split_is_not_a_run_that_was_not_run(world, runs, helpers):
    run = helpers[1]
    for name in ("empty", "unscored"):
        runs(name, made({"0": [A], "1": [A]}))
        path = world.root / "runs" / name / "metrics.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        document["seeds"] = {"val": document["seeds"]["test"], "test": {}}
        lost = ["lost1"] if name == "unscored" else []
        document["clips"] = {"val": {"evaluated": 8, "without features": []}, "test": {"evaluated": 0, "without features": lost}}
        path.write_text(json.dumps(document), encoding="utf-8")
    runs("full", made({"0": [A], "1": [A]}))
    text = world.report({name: run() for name in ("empty", "unscored", "full", "never")}, comparisons={"full": ["empty", "never"]})
    assert "| no test clips | " in line_of(text, "empty")
    assert "1,234,567" in line_of(text, "empty")
    assert "| no test clips | " in line_of(text, "unscored")
    assert each_says(notes_of(text, "unscored"), [("1 labelled test clips", "no features", "0 rows", "lost1")])
    assert "| not run | " in line_of(text, "never")
    assert "| full | empty | no test clips | – |" in text
    assert "| full | never | not run | – |" in text
    assert list(json.loads((world.out / "metrics.json").read_text(encoding="utf-8"))) == ["full"]
    assert {"empty", "full"} <= set(pd.read_csv(world.out / "validation.csv")["run"])


@pytest.mark.fault(39)
def test_a_run_without_numbers_says_why(world, runs, helpers):
    run = helpers[1]
    for name in ("lacking", "dropped", "method"):
        runs(name)
    runs = {"never": run(), "lacking": run([0, 1, 2, 3]), "dropped": run([1]), "method": run(method="cace_net")}
    text = world.report(runs)
    assert each_says(notes_of(text, "never"), [("Not run", "`dvc repro evaluate@never`")])
    assert each_says(notes_of(text, "lacking"), [("Not run", "seeds 2, 3", "`dvc repro`")])
    assert each_says(notes_of(text, "dropped"), [("Not run", "seed 0", "`dvc repro`")])
    assert each_says(notes_of(text, "method"), [("Not run", "avel / avel / f", "avel / cace_net / f", "`dvc repro`")])
    assert not json.loads((world.out / "metrics.json").read_text(encoding="utf-8"))


def test_what_changed_after_the_report_is_news_and_what_it_marks_already_is_not(world, runs, helpers):
    run = helpers[1]
    for name in ("a", "b", "c"):
        runs(name, made({"0": [A], "1": [A]}))
    other = {**PARAMS, "train": {"threads": 2}}
    runs = {"a": run(), "b": run(), "c": run()}
    world.report(runs, today={"a": PARAMS, "b": other, "c": PARAMS})
    assert news(world.out, runs, {"a": PARAMS, "b": other, "c": PARAMS}) == []
    told = news(world.out, runs, {"a": other, "b": PARAMS, "c": PARAMS})
    assert each_says(told, [("a: stale", "train.threads 1 -> 2"), ("b: no longer stale", "params.yaml")])
    more = {"a": run([0, 1, 2]), "b": run(), "d": run()}
    told = news(world.out, more, {name: {**PARAMS, "train": {"threads": 2 if name == "b" else 1}} for name in more})
    assert each_says(told, [("c: ", "params.yaml"), ("a: stale", "seeds [0, 1] -> [0, 1, 2]"), ("d: ", "table")])
    (world.out / "provenance.json").unlink()
    assert "earlier version" in news(world.out, runs, {})[0]


@pytest.mark.parametrize(("seen", "rest"), [(2, "without them"), (8, "all of them")])
@pytest.mark.fault(14)
def test_test_rows_that_stand_in_train_are_told(world, runs, helpers, seen, rest):
    runs("base", made({"0": [A], "1": [A]}))
    path = world.root / "runs" / "base" / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["clips"]["test"]["in train"] = seen
    path.write_text(json.dumps(document), encoding="utf-8")
    assert each_says(notes_of(world.report({"base": helpers[1]()}), "base"), [(f"{seen} test rows", "train", rest)])


def test_that_windows_of_a_film_are_taken_as_independent_is_told(world, runs, helpers):
    runs("base", made({"0": [A], "1": [A]}))
    assert "independent" not in world.report({"base": helpers[1]()})
    path = world.root / "runs" / "base" / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["clips"]["test"] |= {"films": 3, "windows": 8}
    path.write_text(json.dumps(document), encoding="utf-8")
    assert each_says(notes_of(world.report({"base": helpers[1]()}), "base"), [("8 test windows of 3 films", "independent")])
