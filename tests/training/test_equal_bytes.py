"""Test clips with the bytes of a training clip under another id."""

import json

import pandas as pd
import pytest
from test_runs import EVERY_STEP, SELDOM, SPLITS, make_inputs, train

from pipeline.training.evaluate import evaluate_run


@pytest.mark.fault(14)
def test_unseen_scores_leave_out_training_bytes_under_another_id(tmp_path):
    inputs = make_inputs(tmp_path, epochs=1)
    train(inputs, tmp_path / "run", SELDOM)
    inputs.index["sha256"], inputs.index["start"] = [f"{number:064x}" for number in range(len(SPLITS))], 0.0
    for clip, like in ((16, 0), (17, 1), (18, 12)):  # clips 0 and 1 are in train, 12 in val
        inputs.index.loc[clip, "sha256"] = inputs.index.loc[like, "sha256"]
    inputs.index.loc[17, "start"] = 10.0  # another window of the same film
    inputs.index["file"] = [f"{number}.mp4" for number in range(len(SPLITS))]
    inputs.index.loc[17, "file"] = "16.mp4"
    inputs.index.loc[[2, 19], "sha256"] = None  # no files: nothing is known to be equal
    (tmp_path / "out").mkdir()
    evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert document["clips"]["test"]["in train"] == 1
    assert (document["clips"]["test"]["films"], document["clips"]["test"]["windows"]) == (4, 5)  # of six test clips, one has no features
    assert document["clips"]["test_unseen"] == {"evaluated": 4, "without features": []}
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    rest = table[(table["seed"] == 3) & (table["split"] == "test") & (table["clip"] != "clip16")]
    share = 100 * (rest["true"] == rest["predicted"]).mean()
    assert document["seeds"]["test_unseen"]["3"]["accuracy"] == pytest.approx(share)
