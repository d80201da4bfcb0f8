"""Background-event contrast against a float64 restatement in explicit loops, and its gradient against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods.cace_net.contrast import augmented_twin, background_event_contrast

pytestmark = pytest.mark.processor

T = 4
EVENTS = {"none": [0, 0, 0, 0], "one": [0, 1, 0, 0], "some": [0, 1, 1, 1], "all": [1, 1, 1, 1]}


def loops(query: np.ndarray, key: np.ndarray, event: np.ndarray, mask: np.ndarray, temperature: float) -> float:
    """Eq. 7, one clip, row and positive at a time."""
    losses = []
    for q, k, is_event, is_valid in zip(query, key, event, mask, strict=True):
        valid = [t for t in range(len(q)) if is_valid[t]]
        rows = [(t, q[t] / np.linalg.norm(q[t])) for t in valid] + [(t, k[t] / np.linalg.norm(k[t])) for t in valid]
        for i, (segment, row) in enumerate(rows):
            others = [j for j in range(len(rows)) if j != i]
            if is_event[segment]:
                positives = [j for j in others if is_event[rows[j][0]]]
                assert len(positives) == 2 * sum(bool(is_event[t]) for t in valid) - 1
            else:
                positives = [j for j in others if rows[j][0] == segment]
                assert len(positives) == 1
            denominator = math.fsum(math.exp(float(row @ rows[j][1]) / temperature) for j in others)
            ratio = math.fsum(math.exp(float(row @ rows[j][1]) / temperature) / denominator for j in positives) / len(positives)
            losses.append(-math.log(ratio))
    return math.fsum(losses) / len(losses)


def rows(clips: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(clips, T, 3, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("events", EVENTS)
def test_value_equals_the_loops(events, temperature):
    query, key = rows(2)
    event = torch.tensor([EVENTS[events], EVENTS["some"]], dtype=torch.bool)
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    expected = loops(query.numpy(), key.numpy(), event.numpy(), mask.numpy(), temperature)
    got = background_event_contrast(query, key, event, mask, temperature)
    assert got.item() == pytest.approx(expected, rel=1e-10)


def test_two_segments_by_hand():
    """One event, one background, identical twins, rows orthogonal: the one positive has exp(1/tau) of exp(1/tau) + 2."""
    query = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    got = background_event_contrast(query, query.clone(), torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool), 1.0)
    assert got.item() == pytest.approx(math.log(1 + 2 / math.e), rel=1e-12)


@pytest.mark.parametrize("events", EVENTS)
def test_gradient_equals_finite_differences(events):
    query, key = (tensor.requires_grad_() for tensor in rows(1))
    event, mask = torch.tensor([EVENTS[events]], dtype=torch.bool), torch.tensor([[True, True, True, False]])
    assert torch.autograd.gradcheck(lambda q, k: background_event_contrast(q, k, event, mask, 0.2), (query, key))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("events", EVENTS)
def test_finite_at_the_released_temperature(events, dtype):
    """Equal rows have similarity 1: exp(1 / 0.01) is infinite in float32."""
    assert torch.tensor(1 / 0.01).exp().isinf()
    query = torch.ones(2, T, 3, dtype=dtype, requires_grad=True)
    event, mask = torch.tensor([EVENTS[events]] * 2, dtype=torch.bool), torch.tensor([[True] * 4, [False] * 4])
    loss = background_event_contrast(query, torch.ones(2, T, 3, dtype=dtype), event, mask, 0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2 * T - 1), abs=1e-3)  # every candidate alike, up to 1e-7 of rounding / 0.01
    assert query.grad.isfinite().all()


def gradient_of_rows(rows: np.ndarray, event: list[int], temperature: float) -> np.ndarray:
    """d(mean loss)/d(normalised rows) of one clip without padding, derived by hand.

    dL_i/dS_ij is j's share among the candidates minus its share among the positives of i, and S_ij depends on both of its rows.
    """
    half, total = len(rows) // 2, len(rows)
    slopes = np.zeros((total, total))
    for i in range(total):
        others = [j for j in range(total) if j != i]
        positives = [j for j in others if event[j % half]] if event[i % half] else [(i + half) % total]
        for group, sign in ((others, 1.0), (positives, -1.0)):
            powers = np.array([rows[i] @ rows[j] / temperature for j in group])
            slopes[i, group] += sign * np.exp(powers - powers.max()) / np.exp(powers - powers.max()).sum()
    return (slopes + slopes.T) @ rows / temperature / total


@pytest.mark.parametrize("temperature", [0.01, 0.2])
@pytest.mark.parametrize("events", EVENTS)
def test_gradient_equals_the_one_on_paper(events, temperature):
    query, key = (tensor.requires_grad_() for tensor in rows(1))
    event, mask = torch.tensor([EVENTS[events]], dtype=torch.bool), torch.ones(1, T, dtype=torch.bool)
    background_event_contrast(query, key, event, mask, temperature).backward()
    raw = np.concatenate([query.detach().numpy()[0], key.detach().numpy()[0]])
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    unit = raw / lengths
    of_unit = gradient_of_rows(unit, EVENTS[events], temperature)
    expected = (of_unit - unit * (unit * of_unit).sum(axis=1, keepdims=True)) / lengths  # through the normalisation
    np.testing.assert_allclose(np.concatenate([query.grad.numpy()[0], key.grad.numpy()[0]]), expected, rtol=1e-9, atol=1e-9)
    assert (np.abs(expected).max() > 1e-3) == (
        events != "all"
    )  # where every candidate is a positive, the loss is log(2T - 1) whatever the rows


@pytest.mark.parametrize("events", EVENTS)
def test_bfloat16_autocast_of_an_encoder_is_finite_and_near(events):
    """At tau 0.01 a rounding error of 1 / 256 in a similarity changes an exponent by 0.4, so within 1 counts as near."""
    query, key = rows(2)
    event, mask = torch.tensor([EVENTS[events]] * 2, dtype=torch.bool), torch.ones(2, T, dtype=torch.bool)
    encoder = torch.nn.Linear(3, 16)
    exact = background_event_contrast(encoder(query.float()), encoder(key.float()), event, mask, 0.01).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = background_event_contrast(encoder(query.float()), encoder(key.float()), event, mask, 0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, abs=1.0)
    assert encoder.weight.grad.isfinite().all()


def test_float32_close_to_float64_at_the_released_temperature():
    query, key = rows(3)
    event, mask = torch.tensor([[0, 1, 1, 0]] * 3, dtype=torch.bool), torch.ones(3, T, dtype=torch.bool)
    exact = background_event_contrast(query, key, event, mask, 0.01)
    single = background_event_contrast(query.float(), key.float(), event, mask, 0.01)
    assert single.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.fault(32)
def test_nothing_but_padding_is_zero():
    query, key = rows(1)
    mask = torch.zeros(1, T, dtype=torch.bool)
    assert background_event_contrast(query, key, mask, mask, 0.01) == 0


def test_noise_has_the_strength_asked_for():
    torch.manual_seed(0)
    noise = augmented_twin(torch.ones(50, T, 100), torch.ones(50, T, dtype=torch.bool), "noise", 0.5) - 1
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)


def test_a_channel_mask_zeroes_the_same_channels_in_all_segments_of_a_clip():
    torch.manual_seed(0)
    features = torch.rand(40, T, 500) + 1
    twin = augmented_twin(features, torch.ones(40, T, dtype=torch.bool), "channel_mask", 0.1)
    gone = twin == 0
    assert torch.equal(gone, gone[:, :1].expand_as(gone))
    assert torch.equal(twin[~gone], features[~gone])
    assert gone.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not torch.equal(gone[0], gone[1])


def test_mixup_adds_one_other_clip_and_never_its_padding():
    torch.manual_seed(0)
    features = torch.arange(1.0, 6.0).view(5, 1, 1).expand(5, T, 2).clone()  # clip b holds b + 1 everywhere
    mask = torch.arange(T) < torch.tensor([4, 4, 2, 4, 3])[:, None]
    features[~mask] = 1e6
    added = (augmented_twin(features, mask, "mixup", 0.1) - features) / 0.1
    other = (added[:, 0, 0].round() - 1).long()
    assert sorted(other.tolist()) == [0, 1, 2, 3, 4]
    assert other.tolist() != [0, 1, 2, 3, 4]
    for clip in range(5):
        for segment in range(int(mask[clip].sum())):
            expected = other[clip] + 1 if mask[other[clip], segment] else 0
            assert added[clip, segment].tolist() == pytest.approx([float(expected)] * 2, abs=1e-4)
