"""Every trained seed and every evaluation records its machine; a training resumed on another machine records both."""

import json
from dataclasses import replace

import pytest
import torch
from test_first_network import inputs as parsing_inputs  # noqa: F401  (a fixture)
from test_first_network import train as train_parsing
from test_runs import EVERY_STEP, SELDOM, make_inputs, train

from pipeline import epochs
from pipeline.machine import described, this_machine
from pipeline.sealed import read_sealed, write_sealed
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_run

OTHER = {"processor": "AMD EPYC 7B13", "threads": 4}


def machines_of(directory, seed=3):
    return json.loads((directory / f"seed-{seed}.json").read_text(encoding="utf-8"))["machines"]


def stop_at_step(monkeypatch, number):
    """Kill the training before its step ``number``; return a function that lets it run again."""
    step, count = loop.Trainer._step, []

    def counted(self, *arguments):
        count.append(1)
        if len(count) == number:
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    return lambda: monkeypatch.setattr(loop.Trainer, "_step", step)


def test_a_seed_records_its_machine_and_evaluate_passes_it_on(tmp_path):
    inputs = make_inputs(tmp_path, epochs=1)
    gpu = {"gpu": "NVIDIA H100"}
    inputs = replace(inputs, made_with={"params": {"features": {"plain": {"dtype": "float32"}}}, "machines": {"features": [gpu]}})
    train(inputs, tmp_path / "run", SELDOM)
    here = this_machine()
    assert machines_of(tmp_path / "run", 3) == machines_of(tmp_path / "run", 4) == [here]
    (tmp_path / "out").mkdir()
    evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path / "out")
    made_with = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["made_with"]
    assert made_with["machines"] == {"features": [gpu], "training": {"3": [here], "4": [here]}, "evaluation": [here]}
    (params,) = made_with["params"]
    assert params["features"] == {"plain": {"dtype": "float32"}}
    assert params["train"]["threads"] is None
    assert params["settings"]["recipe"]["epochs"] == 1
    assert params["settings"]["recipe"]["learning_rate"] == 0.02
    assert "checkpoint_seconds" not in params["train"]  # how to work, not what comes out


def test_features_remade_between_training_and_evaluation_are_both_recorded(tmp_path):
    inputs = make_inputs(tmp_path, epochs=1, seeds=(3,))
    inputs = replace(inputs, made_with={"params": {"media": {"frames_per_second": 2.0}}, "machines": {"features": [OTHER]}})
    train(inputs, tmp_path / "run", SELDOM)
    inputs = replace(inputs, made_with={"params": {"media": {"frames_per_second": 4.0}}, "machines": {"features": [this_machine()]}})
    (tmp_path / "out").mkdir()
    evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path / "out")
    made_with = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["made_with"]
    assert [params["media"]["frames_per_second"] for params in made_with["params"]] == [2.0, 4.0]
    assert made_with["machines"]["features"] == [this_machine(), OTHER]


def test_a_training_resumed_on_another_machine_records_both(tmp_path, monkeypatch):
    inputs = make_inputs(tmp_path, seeds=(3,))
    let_go = stop_at_step(monkeypatch, 5)
    monkeypatch.setattr(epochs, "this_machine", lambda device: OTHER)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "run")
    let_go()
    monkeypatch.undo()
    train(inputs, tmp_path / "run", SELDOM)
    assert machines_of(tmp_path / "run") == [OTHER, this_machine()]


def test_the_machine_of_a_first_network_is_recorded_too(parsing_inputs, tmp_path, monkeypatch):  # noqa: F811
    stop_at_step(monkeypatch, 3 * 3 + 1)  # the first network is whole, the second not begun
    monkeypatch.setattr(epochs, "this_machine", lambda device: OTHER)
    with pytest.raises(KeyboardInterrupt):
        train_parsing(parsing_inputs, tmp_path / "run")
    (tmp_path / "run" / "seed-3.checkpoint").unlink(missing_ok=True)
    monkeypatch.undo()
    train_parsing(parsing_inputs, tmp_path / "run")
    assert machines_of(tmp_path / "run") == [OTHER, this_machine()]


def test_seeds_of_an_earlier_version_have_an_unknown_machine(tmp_path):
    inputs = make_inputs(tmp_path, epochs=1)
    train(inputs, tmp_path / "run", SELDOM)
    path = tmp_path / "run" / "seed-3.json"
    facts = read_sealed(path)
    for key in ("machines", "train", "made_with"):
        del facts[key]
    write_sealed(path, facts)
    (tmp_path / "out").mkdir()
    evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path / "out")
    made_with = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["made_with"]
    assert [described(machine) for machine in made_with["machines"]["training"]["3"]] == ["unknown machine"]
    assert made_with["machines"]["training"]["4"] == [this_machine()]


def test_the_recorded_threads_are_the_threads_used(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(make_inputs(tmp_path, epochs=1, seeds=(3,)), tmp_path / "run", EVERY_STEP.model_copy(update={"threads": 2}))
    finally:
        torch.set_num_threads(before)
    (machine,) = machines_of(tmp_path / "run")
    assert machine["threads"] == 2
    assert machine["instructions"] == torch.backends.cpu.get_cpu_capability()
