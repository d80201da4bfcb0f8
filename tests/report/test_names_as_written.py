"""Matplotlib draws the user's names of classes, runs, clips and files literally."""

import importlib

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from pipeline import drawing
from pipeline.parity.measures import LayerMeasures
from pipeline.parity.pairs import Layer
from pipeline.parity.report import draw as draw_parity
from pipeline.report import attention, timeline
from pipeline.report.captions import captioned
from pipeline.report.figures import draw_curves, draw_runs
from pipeline.report.preview import preview
from pipeline.tasks.tracks import Tracks

NAMES = ["a $x^{$ b", "50 $ or 60 $", r"$\frac{$", "$$", "_sum"]
WHOLE = {"crop": False, "size": 64, "resize": 64}


@pytest.fixture
def drawn(monkeypatch):
    """Collect the texts of every figure, and check that none is read as a formula."""
    texts = []

    def keep(figure):
        found = figure.findobj(Text)
        assert not any(text.get_parse_math() for text in found)
        texts.extend(text.get_text() for text in found)
        matplotlib.pyplot.close.__wrapped__(figure)

    keep.__wrapped__ = matplotlib.pyplot.close
    monkeypatch.setattr(matplotlib.pyplot, "close", keep)
    return texts


def some_tracks():
    scores = np.random.default_rng(0).random((10, len(NAMES))).astype(np.float32)
    return Tracks(tuple(NAMES), {"audio_visual": scores}, {"audio_visual": scores > 0.5}, np.ones(10, bool))


def test_timelines_and_attention(drawn, tmp_path):
    frames = np.random.default_rng(1).integers(0, 255, (10, 48, 64, 3), np.uint8)
    shown = preview(frames, np.zeros(80000, np.float32), 8000, 10)
    for title in NAMES:
        timeline.draw(tmp_path / "timeline.png", some_tracks(), shown, 1.0, title=title)
        attention.strip(tmp_path / "attention.png", frames[:5], np.full((5, 2, 2), 0.25), WHOLE, NAMES, title)
    assert all(drawn.count(name) == len(NAMES) + 2 for name in NAMES)  # a caption each time, and once the title of both
    assert all(f"{name}\n(audio-visual)" in drawn for name in NAMES[:3])


def test_runs_and_curves(drawn, tmp_path, world, helpers):
    share, run, _ = helpers
    for name in NAMES:
        true, predicted = share(20)
        world.write_run(name, true, {0: predicted})
    world.report({name: run(seeds=(0,)) for name in NAMES}, drawn=True)
    assert all(name in drawn for name in NAMES)
    draw_runs([], tmp_path / "runs.png")
    curves = pd.DataFrame({"run": NAMES, "epoch": 0, "value": 1.0})
    draw_curves(curves, tmp_path / "curves.png")
    assert {name for name in NAMES if not name.startswith("_")} <= set(drawn)


def test_histograms_of_the_parity_report(drawn, tmp_path):
    measures = LayerMeasures(Layer(NAMES[0], "visual", (3,)), ["a"], np.ones((1, 3)), np.ones((1, 3)))
    draw_parity([measures], tmp_path / "histograms.png")
    assert f"{NAMES[0]}\nsegments" in drawn


def test_the_band_of_a_film_takes_any_text():
    picture = np.zeros((48, 64, 3), np.uint8)
    for name in NAMES:
        assert captioned(picture, name)[48:].any()


def test_no_other_module_draws_by_itself(repository):
    """Code that imports matplotlib's drawing elsewhere would read names as formulas."""
    for path in sorted((repository / "pipeline").rglob("*.py")):
        if path.name != "drawing.py":
            assert "matplotlib.pyplot" not in path.read_text(encoding="utf-8"), path
    importlib.reload(drawing)
    assert matplotlib.rcParams["text.parse_math"] is False
