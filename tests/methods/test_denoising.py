"""Label denoising and the contrast of the streams against loops written from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.layers.parsing_losses import binary_loss, smoothed, stream_contrast
from pipeline.methods.shared.denoising import absent_labels, noise_ratio

pytestmark = pytest.mark.processor


def test_noise_is_counted_where_a_class_is_weak_for_what_it_usually_is():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(11, 3, generator=generator, dtype=torch.float64)
    labels = (torch.rand(11, 3, generator=generator) < 0.6).double()
    labels[:, 2] = 0
    targets = smoothed(labels, 0.9)
    ratios = noise_ratio(zip(p.split(4), targets.split(4), labels.split(4), strict=True), 0.9)
    for c in range(3):
        mean = np.mean([part[:, c].mean().item() for part in p.split(4)])  # of the batches' means: the last batch is smaller
        present = [i for i in range(11) if labels[i, c] == 1]
        noisy = [i for i in present if p[i, c].item() * 0.95 / mean < 0.9]
        assert ratios[c].item() == pytest.approx(len(noisy) / len(present) if present else 0.0)
    assert ratios.dtype == torch.float64
    assert 0 < ratios[0] < 1
    assert ratios[2] == 0


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_removed_where_one_modality_misses_what_the_other_has(seed):
    generator = torch.Generator().manual_seed(seed)
    own, other = (torch.rand(9, 4, generator=generator) for _ in range(2))
    positive = torch.rand(9, 4, generator=generator) < 0.7
    ratio = torch.tensor([0.0, 0.35, 0.8, 1.0])
    removed = absent_labels(own, other, positive, ratio)
    for c in range(4):
        present = [i for i in range(9) if positive[i, c]]
        n = math.trunc(ratio[c].item() * len(present))
        worst = sorted(present, key=lambda i: -own[i, c].item())[:n]
        best_elsewhere = sorted(present, key=lambda i: other[i, c].item())[:n]
        assert {i for i in range(9) if removed[i, c]} == set(worst) & set(best_elsewhere)
    assert not removed[:, 0].any()
    assert (removed[:, 3] == positive[:, 3]).all()


def test_the_contrast_is_the_logarithm_of_a_mixture():
    generator = torch.Generator().manual_seed(0)
    audio, visual = (torch.randn(3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    lengths = (5, 2, 1)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    terms = []
    for clip, length in enumerate(lengths):
        a, v = audio[clip, :length].numpy(), visual[clip, :length].numpy()
        for t in range(length):
            weights = np.array([math.exp(a[t] @ v[n] / np.linalg.norm(a[t]) / np.linalg.norm(v[n]) / 0.2) for n in range(length)])
            q = weights / weights.sum()
            others = sum(q[n] for n in range(length) if n != t)
            terms.append(-math.log(0.9 * q[t] + (0.1 / (length - 1) * others if length > 1 else 0)))
    assert stream_contrast(audio, visual, mask).item() == pytest.approx(np.mean(terms), abs=1e-12)


def test_padding_alone_has_no_loss_and_no_gradient():
    audio, visual = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    loss = stream_contrast(audio, visual, nothing)
    loss.backward()
    assert loss == 0
    assert (audio.grad == 0).all()
    assert binary_loss(torch.rand(2, 3), torch.rand(2, 3), nothing[:, 0]) == 0


def test_probabilities_beyond_one_cost_what_the_margin_costs():
    p = torch.tensor([[1.7, 0.5]], dtype=torch.float64, requires_grad=True)
    loss = binary_loss(p, torch.tensor([[0.0, 1.0]]), torch.tensor([True]))
    loss.backward()
    assert loss.item() == pytest.approx((-math.log(1e-7) + math.log(2)) / 2, rel=1e-6)
    assert p.grad.tolist() == [[0.0, -1.0]]
