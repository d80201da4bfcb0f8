"""Contrastive losses of batches without pairs: zero without positives, finite everywhere, and always with a gradient."""

from __future__ import annotations

import pytest
import torch

from pipeline.contrastive.loss import info_nce
from pipeline.layers.parsing_losses import smoothed_stream_contrast, stream_contrast
from pipeline.methods.cace_net.contrast import background_event_contrast
from pipeline.methods.ccln.foreground_enhancement import foreground_enhancement
from pipeline.methods.ccln.video_contrast import video_contrast
from pipeline.methods.coleaf.collaborative_losses import event_aware_contrast, reversed_contrast

T, D, CLASSES, TAU = 4, 6, 3, 0.01  # the smallest temperature in use
FEE = {"margin": 1.0, "temperature": 0.1, "reach": 2.0}


def clips(count, *shape, seed=0):
    return torch.randn(count, *shape, D, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def no(count, *shape):
    return torch.zeros(count, *shape, dtype=torch.bool)


def yes(count, *shape):
    return ~no(count, *shape)


# Two inputs -> the loss, for a batch of this many clips without pairs.
NOTHING_TO_ASK = {
    "InfoNCE, one clip": (1, (), lambda a, b: info_nce(a, b, TAU, symmetric=True)),
    "InfoNCE, one clip in many rows": (5, (), lambda a, b: info_nce(a, b, TAU, groups=torch.zeros(5, dtype=torch.int64))),
    "clips without an event": (5, (), lambda a, b: video_contrast(a, b, torch.zeros(5, CLASSES), yes(5), TAU)),
    "one clip without an event": (1, (), lambda a, b: video_contrast(a, b, torch.zeros(1, CLASSES), yes(1), TAU)),
    "one clip with an event": (1, (), lambda a, b: video_contrast(a, b, torch.eye(CLASSES)[:1], yes(1), TAU)),
    "clips of padding alone, by class": (3, (), lambda a, b: video_contrast(a, b, torch.eye(CLASSES), no(3), TAU)),
    "clips of padding alone, by segment": (3, (T,), lambda a, b: background_event_contrast(a, b, yes(3, T), no(3, T), TAU)),
    "clips of event alone": (3, (T,), lambda a, b: foreground_enhancement(a + b, yes(3, T), yes(3, T), **FEE)),
    "clips of background alone": (3, (T,), lambda a, b: foreground_enhancement(a + b, no(3, T), yes(3, T), **FEE)),
    "one segment": (1, (1,), lambda a, b: event_aware_contrast(a, b, yes(1, 1), torch.ones(1), yes(1), TAU)),
    "clips that do not count": (3, (T,), lambda a, b: event_aware_contrast(a, b, yes(3, T), torch.ones(3), no(3), TAU)),
    "nothing of one modality alone": (3, (T,), lambda a, b: event_aware_contrast(a, b, yes(3, T), torch.zeros(3), yes(3), TAU)),
    "nothing of one modality alone, as released": (3, (T,), lambda a, b: reversed_contrast(a, b, yes(3, T), torch.zeros(3), TAU)),
    "streams of padding alone": (3, (T,), lambda a, b: stream_contrast(a, b, no(3, T))),
    "streams of padding alone, as released": (3, (T,), lambda a, b: smoothed_stream_contrast(a, b, no(3, T))),
}


@pytest.mark.parametrize("case", NOTHING_TO_ASK)
@pytest.mark.fault(32)
def test_without_pairs_loss_and_gradient_are_zero(case):
    count, shape, loss_of = NOTHING_TO_ASK[case]
    first, second = clips(count, *shape), clips(count, *shape, seed=1)
    loss = loss_of(first, second)
    assert loss.requires_grad
    loss.backward()
    assert loss.item() == 0
    for rows in (first, second):
        assert torch.equal(rows.grad, torch.zeros_like(rows))


# A batch of one clip, or without an event, in which every row still has a partner of its own.
STILL_ASKED = {
    "no event: each segment and its twin": lambda a, b: background_event_contrast(a, b, no(1, T), yes(1, T), TAU),
    "one stream": lambda a, b: stream_contrast(a, b, yes(1, T)),
    "one stream, as released": lambda a, b: smoothed_stream_contrast(a, b, yes(1, T)),
    "one anchor": lambda a, b: event_aware_contrast(a, b, yes(1, T), torch.ones(1), yes(1), TAU),
}


@pytest.mark.parametrize("case", STILL_ASKED)
@pytest.mark.fault(32)
def test_a_single_clip_has_a_finite_loss_and_gradient(case):
    first, second = clips(1, T), clips(1, T, seed=1)
    loss = STILL_ASKED[case](first, second)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()
    assert first.grad.abs().sum() > 0
