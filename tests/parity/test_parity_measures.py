import json

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.parity import report
from pipeline.parity.measures import measure, measure_layer
from pipeline.parity.pairs import Pairs, Sample
from pipeline.parity.report import as_text, compare


def arrays(*segments):
    """(1, T, D)."""
    return np.array([segments], np.float32)


def test_cosine_and_relative_error_by_hand():
    ours = arrays([3, 4], [1, 0], [0, 0], [0, 0], [5, 0], [1, 1])
    published = arrays([6, 8], [0, 2], [0, 0], [3, 4], [0, 0], [1, 1])
    mask = np.array([[True] * 5 + [False]])
    cosine, error = measure(Sample(ours, published, mask, np.zeros(1, bool)))
    np.testing.assert_allclose(cosine[0], [1, 0, 1, 0, 0, np.nan])
    np.testing.assert_allclose(error[0], [0.5, np.sqrt(5) / 2, 0, 1, np.inf, np.nan])


@pytest.fixture
def stores(make_store, tmp_path):
    def make(ours, published, **options):
        made = []
        for name, (visual, audio, clips) in (("ours", ours), ("published", published)):
            made.append(make_store(tmp_path / name, visual, audio, clips, options.get("valid")))
        return made

    return make


def test_only_common_clips_valid_segments_and_finite_numbers_count(stores):
    rng = np.random.default_rng(0)
    visual, audio = rng.normal(size=(3, 4, 2, 2, 5)).astype(np.float32), rng.normal(size=(3, 4, 6)).astype(np.float32)
    broken = audio.copy()
    broken[1, 2, 0], broken[2, 3, 5] = np.nan, np.inf
    valid = np.ones((3, 4), bool)
    valid[0, 3] = False
    paths = stores((visual, audio, ["a", "b", "c"]), (visual[:, :, ::-1], broken, ["d", "b", "c"]), valid=valid)
    pairs = Pairs(*map(FeatureStore, paths))
    assert (pairs.clips, pairs.only_ours, pairs.only_published) == (["b", "c"], 1, 1)
    measured = {layer.name: measure_layer(pairs, layer) for layer in pairs.layers()}
    assert [measures.counted for measures in measured.values()] == [8, 8, 6]
    np.testing.assert_allclose(measured["visual (mean)"].error, 0, atol=1e-6)
    expected = np.linalg.norm(visual[1:] - visual[1:, :, ::-1], axis=(2, 3)) ** 2
    norms = np.sqrt((visual[1:].astype(np.float64) ** 2).sum((2, 3, 4)))
    np.testing.assert_allclose(measured["visual"].error, np.sqrt(expected.sum(-1)) / norms, rtol=1e-5)
    assert np.isnan(measured["audio"].error[0, 2])
    assert np.isnan(measured["audio"].error[1, 3])


def test_the_report_holds_every_number(stores, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    visual, audio = rng.normal(size=(20, 4, 2, 2, 5)).astype(np.float32), rng.normal(size=(20, 4, 6)).astype(np.float32)
    wrong = audio.copy()
    wrong[7] = rng.normal(size=(4, 6))
    ours, published = stores((visual, audio, None), (visual * 2, wrong, None))
    out = tmp_path / "out"
    with monkeypatch.context() as earlier:
        earlier.setattr(report, "draw", lambda measured, path: path.write_bytes(b"of an earlier report"))
        compare(ours, published, out)
    (out / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"thesis\.tex"):
        compare(ours, published, out)
    (out / "thesis.tex").unlink()
    verdicts = compare(ours, published, out)  # replaces its own report
    assert [(verdict.layer, verdict.kind) for verdict in verdicts] == [("visual", "explained"), ("audio", "same")]
    content = json.loads((out / "parity.json").read_text(encoding="utf-8"))
    assert content["clips"] == {"both": 20, "only_ours": 0, "only_published": 0}
    assert content["layers"]["visual"]["relative_error"]["median"] == pytest.approx(0.5, rel=1e-5)
    assert content["layers"]["visual"]["cosine"]["p05"] == pytest.approx(1)
    assert content["verdicts"][0]["hypotheses"] == ["scale"]
    assert content["layers"]["audio"]["far"].endswith(": clip007, clip000, clip001")
    histograms = pd.read_csv(out / "histograms.csv")
    assert (histograms.groupby(["layer", "measure"])["count"].sum() == 80).all()
    halves = histograms[(histograms["layer"] == "visual") & (histograms["measure"] == "relative_error") & (histograms["count"] > 0)]
    assert halves["low"].min() <= 0.5 <= halves["high"].max() <= 0.7
    assert pd.read_csv(out / "clips.csv").query("layer == 'audio'")["relative_error"].idxmax() % 20 == 7
    assert len(pd.read_csv(out / "segments.csv")) == 3 * 4
    assert (out / "histograms.png").read_bytes().startswith(b"\x89PNG")
    text = as_text(out, verdicts)
    assert "audio: the same" in text
    assert ": clip007" in text


def test_stores_that_cannot_be_compared_say_why(make_store, tmp_path, undrawn):
    a = make_store(tmp_path / "a", np.zeros((2, 4, 3), np.float32), np.ones((2, 4, 6), np.float32), ["x", "y"])
    b = make_store(tmp_path / "b", np.zeros((2, 4, 3), np.float32), np.ones((2, 4, 6), np.float32), ["Y", "Z"])
    c = make_store(tmp_path / "c", np.zeros((2, 5, 3), np.float32), np.ones((2, 5, 6), np.float32), ["x", "y"])
    d = make_store(tmp_path / "d", np.zeros((2, 4, 6, 2, 3), np.float32), np.ones((2, 4, 7), np.float32), ["x", "y"])
    with pytest.raises(PipelineError, match="no clip"):
        compare(a, b, tmp_path / "out")
    with pytest.raises(PipelineError, match="4 segments"):
        compare(a, c, tmp_path / "out")
    with pytest.raises(PipelineError, match="feature store"):
        compare(a, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    verdicts = compare(a, d, tmp_path / "out")
    assert [(verdict.layer, verdict.kind) for verdict in verdicts] == [("visual (mean)", "same"), ("audio", "not comparable")]
    assert "encoder" in as_text(tmp_path / "out", verdicts)
    e = make_store(tmp_path / "e", np.zeros((2, 4, 3), np.float32), np.full((2, 4, 6), np.nan, np.float32), ["x", "y"])
    (reason,) = compare(a, e, tmp_path / "out")[1].not_tried
    assert "segment" in reason
