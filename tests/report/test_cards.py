"""Model cards: what they say of data, features, method, scores, limits and machines."""

import numpy as np
import pytest

from pipeline import config
from pipeline.datasets.base import Event, Row
from pipeline.encoders.known_weights import KNOWN
from pipeline.machine import project_version
from pipeline.methods import METHODS
from pipeline.metrics.bootstrap import paired_bootstrap
from pipeline.report.cards import About, is_synthetic
from pipeline.sealed import write_sealed
from tests.wording import says

DIGEST = KNOWN["efficientnet_lite0"].sha256
ENCODERS = {
    "visual": {"encoder": "efficientnet_lite0", "version": 3, "weights": {"weights": DIGEST}, "settings": {}},
    "audio": {"encoder": "logmel", "version": 1, "weights": {}, "settings": {}},
}
SPEC = {"segments": 5, "segment_seconds": 2.0, "shapes": {"audio": [128], "visual": [4, 4, 320]}, "encoders": ENCODERS}
PUBLISHED = {**SPEC, "encoders": {}, "made_by": "a program", "published": {"visual": {"file": "visual_feature.h5"}}}
MACHINE = {"processor": "Xeon", "versions": {"torch": "2.11.0", "avel-pipeline": "0.0.7"}}


def made_with(**settings):
    of_method = METHODS.get("avel").Config(**settings).model_dump(mode="json")
    params = {
        "dataset": {"kind": "ave", "annotations": "data/raw/demo"}, "settings": of_method, "train": {"precision": "32-true"},
        "features": {"f": {"finetuned": "tuned"}},
    }  # fmt: skip
    return {"params": [params], "machines": {"training": {"0": [MACHINE], "1": [MACHINE]}, "evaluation": [MACHINE]}}


@pytest.fixture
def carded(world, helpers):
    """Write a run, report it, and return its card and the labels: (card, true, predicted of seed 0 and of seed 1)."""
    share, run, _ = helpers

    def write(spec=SPEC, about=None, seeds=(0, 1), settings=None, **report):
        true, first = share(20)
        second = share(27)[1]
        given = made_with(supervision="weak", recipe={"epochs": 3}) if settings is None else settings
        world.write_run("mine", true, dict(zip(seeds, (first, second), strict=False)), made_with=given)
        write_sealed(world.root / "runs/mine/features.json", spec)
        world.sources = world.sources.__class__(**{**vars(world.sources), "about": about or About()})
        world.report({"mine": run(seeds), "later": run()}, **report)
        return (world.out / "runs/mine/README.md").read_text(encoding="utf-8"), true, first, second

    return write


def test_a_card_says_what_a_user_of_the_weights_must_know(world, carded):
    event = (Event("av", "Bell", 0.0, 1.0),)
    splits = ["train", "train", "train", "val"]
    world.write_index([Row(f"clip{n % 3}", split, None, event) for n, split in enumerate([*splits, *["test"] * 8])])
    card, true, first, second = carded(about=About(synthetic=True, commit="abc123"), notes={"mine": "a note of mine"})
    assert says(card, "# mine", "`avel`", "2 seeds (0, 1)", "1,234,567 parameters", f"avel-pipeline {project_version()}")
    assert says(card, "## Data", "`ave`", "`data/raw/demo`", "5 segments of 2 s", "Classes (3): Bell; Dog <b>; Guitar", "weak")
    assert says(card, "train: 3 annotation rows of 3 clips.", "val: 1 annotation rows", "test: 8 annotation rows of 3 clips; 8 scored.")
    assert says(card, "## Features", "visual (4, 4, 320)", "efficientnet_lite0", "version 3", DIGEST, "Apache-2.0", "logmel", "`tuned`")
    assert says(card, "## Method", "3 epochs", "accuracy on validation", "recipe.epochs 3")
    right = [(true == predicted).mean(axis=1) * 100 for predicted in (first, second)]
    mean, low, high = paired_bootstrap(np.mean(right, axis=0), np.zeros(8))
    assert says(card, "## Scores", f"| accuracy | {mean:.2f} ± {np.std([r.mean() for r in right], ddof=1):.2f} |")
    assert says(card, f"[{low:.2f}, {high:.2f}]", "trivial answer: background", "seed by seed: 50.00, 67.50")
    assert says(card, "## Limits", "drawn by a program", "2 s", "not to be used", "a note of mine")
    assert says(card, "seed-0.safetensors", "sha-mine-0", "seed-1.safetensors", "sha-mine-1")
    assert says(card, "Xeon, torch 2.11.0, avel-pipeline 0.0.7", "abc123")
    assert not (world.out / "runs/later").exists()  # it was never evaluated


def test_equal_outs_give_equal_cards_without_times_or_places(world, carded, helpers):
    world.write_time("mine", 0, 12.3)
    world.write_time("mine", 1, 45.6)
    first = carded()[0]
    (world.out / "runs/mine/README.md").unlink()
    world.report({"mine": helpers[1]()})
    assert (world.out / "runs/mine/README.md").read_text(encoding="utf-8") == first
    assert str(world.root) not in first
    assert "drawn by a program" not in first
    assert "commit" not in first


def test_made_up_published_and_single_are_said(carded):
    card = carded(PUBLISHED, seeds=(0,))[0]
    assert says(card, "1 seed (0)", "made-up", "`a program`", "`visual_feature.h5`", "licence", "## Limits", "made-up", "One seed")
    assert card.count("made-up") == 2
    assert "seed by seed" not in card


def test_results_of_an_earlier_version_say_what_was_not_recorded(carded):
    card = carded(settings={})[0]
    assert says(card, "Data set: not recorded", "settings were not recorded", "unknown machine")


def test_the_worlds_that_the_project_draws_are_known_by_their_place(repository):
    known = {name: config.load(repository / "suites" / f"{name}.yaml") for name in ("demo", "demo-dense", "realmix", "clips")}
    synthetic = {name: is_synthetic(params.dataset.annotations, params.synth) for name, params in known.items()}
    assert synthetic == {"demo": True, "demo-dense": True, "realmix": False, "clips": False}
