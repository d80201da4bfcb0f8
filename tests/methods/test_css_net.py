"""CSS-Net-style: its selection by hand, and network and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import Restatement, assert_two_heads, example, relu, sigmoid, small

from pipeline.methods import create
from pipeline.methods.css_net.correlation import kept

WIDTHS = {"visual_hidden": 6, "width": 8, "heads": 2, "input_dropout": 0.0, "dropout": 0.0, "contrast_weight": 0.3, "contrast_margin": 0.5}


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> event logits (T,), class logits (K,), attention (T, S), global features."""

    def __init__(self, method, select, top=2):
        super().__init__(method)
        self.select, self.top = select, top

    def shares(self, correlation):
        rows = []
        for row in correlation:
            least = row.mean() if self.select == "mean" else sorted(row)[-min(self.top, len(row))]
            row = np.array([max(x, 0) if x >= least else 0.0 for x in row])
            rows.append(row / (row.sum() + 1e-8))
        return np.stack(rows)

    def __call__(self, visual, audio):
        maps = relu(self.linear("visual_input.0", visual))
        pairs = [self.channel_spatial("audio_guides", positions, positions, a) for positions, a in zip(maps, audio, strict=True)]
        v, weights = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        a = audio * (1 + sigmoid(self.single_head("visual_guides", v, audio)))
        v, a = self.lstm("visual_lstm", v), self.lstm("audio_lstm", a)
        correlation = np.array([[np.corrcoef(x, y)[0, 1] for y in a] for x in v])
        to_v, to_a = self.shares(correlation), self.shares(correlation.T)
        v, a = v + to_v @ a, a + to_a @ v
        first = self.interaction("interaction.visual", v, a)
        fused = (first + self.interaction("interaction.audio", a, first)) / 2
        clip = [shares.sum(axis=0) / (shares.sum() + 1e-8) @ x for shares, x in ((to_a, v), (to_v, a))]
        return self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.max(axis=0)), weights, *clip


def cosine(x, y):
    return x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-12)  # 0 where nothing was kept


@pytest.mark.parametrize(("supervision", "select"), [("full", "mean"), ("weak", "topk")])
def test_forward_and_losses_equal_the_numpy_restatement(supervision, select):
    method = small("css_net", limit=0.9, **WIDTHS, supervision=supervision, select=select, top=2)
    labels = [{1}, {0}, {3}] if supervision == "full" else [{1}, {0, 2}, {3}]

    def extra(said, wanted):
        together = [1 - cosine(v, a) + ((v - a) ** 2).sum() / 8 for *_, v, a in said]
        apart = [
            max(0, 0.5 + cosine(said[i][3], said[j][4])) for i in range(3) for j in range(3) if not labels[i] & labels[j]
        ]  # fmt: skip
        assert min(apart) < max(apart)
        contrast = np.mean(together) + np.mean(apart)
        return {"contrast": contrast, "total": wanted["total"] + 0.3 * contrast}

    assert_two_heads(method, Reference(method, select), extra, atol=1e-7)


def test_kept_entries_by_hand():
    """Positive entries from the row's mean on, or the two largest; a row without any stays empty; padding counts in neither."""
    row = torch.tensor([[[0.6, 0.2, -0.2, 0.4, 9.0], [-0.1, -0.2, -0.3, -0.4, 9.0], [0.5, 0.5, 0.5, 0.5, 9.0]] + [[0.0] * 5] * 2])
    mask = torch.tensor([[True] * 4 + [False]])
    by_mean, by_top = kept(row, mask, "mean", 2)[0], kept(row, mask, "topk", 2)[0]
    torch.testing.assert_close(by_mean[:3], torch.tensor([[0.6, 0, 0, 0.4, 0], [0, 0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25, 0]]))
    torch.testing.assert_close(by_top[:2], torch.tensor([[0.6, 0, 0, 0.4, 0], [0.0, 0, 0, 0, 0]]))


def test_clips_of_one_class_are_not_pushed_apart():
    """Two clips of one class: what remains is each clip's own pair."""
    method, (batch, targets, _) = small("css_net", **WIDTHS), example()
    targets.video[:] = 1
    one = method.losses(batch, targets, None)["contrast"]
    targets.video[0] = 2
    assert method.losses(batch, targets, None)["contrast"] > one


def test_parameters():
    method = create("css_net", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28)
    assert sum(parameter.numel() for parameter in method.parameters()) == 2_573_982
