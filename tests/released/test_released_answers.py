"""The comparison itself: it finds what is off, and passes nothing over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from released_answers import FLOAT64, GOLDENS, Answers, answers, stored

INPUTS = {
    "denoise.npz": {"a_prob", "v_prob", "label", "noise_audio", "noise_visual"},
    "metrics.npz": {"pred_a", "pred_v", "gt_a", "gt_v", "columns", "names"},
    "metrics_events.npz": {"pred", "gt"},
}


def test_so_many_arrays_are_compared():
    """The number that docs/status.md states; :func:`answers` makes sure that none is left out."""
    compared = sum(len(stored(path.name).keys() - INPUTS.get(path.name, set())) for path in GOLDENS.glob("*.npz"))
    assert compared == 3072
    assert f"{compared:,} comparisons" in (GOLDENS.parents[2] / "docs" / "status.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("ours", "fault"), [([1.0, 2.0], ""), ([1.0, 2.1], "x: 0.1 off"), ([1.0, np.nan], "x: nan off"), ([[1.0, 2.0]], "x: shape (1, 2)")]
)
def test_a_number_that_is_off_is_found(ours, fault):
    found = Answers({"x": np.array([1.0, 2.0])})
    found.equal("x", torch.tensor(ours, dtype=torch.float64), FLOAT64)
    assert [text[: len(fault)] for text in found.faults] == ([fault] if fault else [])


@pytest.mark.parametrize(("gradient", "faults"), [([2.0, -1.0], 0), ([2.0, -1.0 - 1e-8], 2), ([-1.0, 2.0], 0), ([1.0, 0.0], 1)])
def test_a_gradient_that_is_off_is_found(gradient, faults):
    """Its sum is 1 and its sum of squares 5; the other parameter has none."""
    found = Answers({"gsum/w": np.array(1.0), "gsq/w": np.array(5.0), "gsum/unused": np.array(0.0), "gsq/unused": np.array(0.0)})
    found.equal_gradients({"w": torch.tensor(gradient, dtype=torch.float64)}, FLOAT64)
    assert len(found.faults) == faults
    assert found.compared == found.arrays.keys()


def test_a_gradient_that_we_lack_is_found():
    found = Answers({name: np.array(1e-12) for name in ("gsum/w", "gsq/w", "gsum/other", "gsq/other")})
    found.equal_gradients({"w": torch.tensor([1e-12], dtype=torch.float64)}, FLOAT64)
    assert any(fault.startswith("gsum/other") for fault in found.faults)


def test_an_array_that_is_not_compared_is_found():
    left_out = {"is_event_logits", "loss"}
    missed = r"never compared: \['is_event_logits', 'loss'\]"
    with pytest.raises(AssertionError, match=missed), answers("avel_others.npz", "cmran_supv/") as found:
        for name in found.arrays.keys() - left_out:
            found.equal(name, found.arrays[name], 0)
    with pytest.raises(AssertionError, match="holds nothing below"), answers("avel_others.npz", "cmran_full/"):
        pass
