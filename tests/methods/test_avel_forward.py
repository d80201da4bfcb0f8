"""AVEL: size, losses, and its forward pass restated in NumPy, float64, one clip and one segment at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods import AvelTargets, Batch, Progress, create

POSITIONS, CLASSES = 6, 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_direction(state: dict, prefix: str, suffix: str, steps: list[np.ndarray]) -> list[np.ndarray]:
    weight_in, weight_hidden = state[f"{prefix}.weight_ih_l0{suffix}"], state[f"{prefix}.weight_hh_l0{suffix}"]
    bias = state[f"{prefix}.bias_ih_l0{suffix}"] + state[f"{prefix}.bias_hh_l0{suffix}"]
    hidden = cell = np.zeros(weight_hidden.shape[1])
    outputs = []
    for step in steps:
        gate_in, forget, candidate, gate_out = np.split(weight_in @ step + weight_hidden @ hidden + bias, 4)
        cell = sigmoid(forget) * cell + sigmoid(gate_in) * np.tanh(candidate)
        hidden = sigmoid(gate_out) * np.tanh(cell)
        outputs.append(hidden)
    return outputs


def bilstm(state: dict, prefix: str, steps: list[np.ndarray]) -> np.ndarray:
    forward = lstm_direction(state, prefix, "", steps)
    backward = lstm_direction(state, prefix, "_reverse", steps[::-1])[::-1]
    return np.stack([np.concatenate(pair) for pair in zip(forward, backward, strict=True)])


def attended(state: dict, visual: np.ndarray, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One segment: (S, D_v), (D_a,) -> (D_v,), weights (S,)."""
    guide = state["attention.audio_score.weight"] @ np.maximum(state["attention.audio.weight"] @ audio + state["attention.audio.bias"], 0)
    scores = []
    for n, position in enumerate(visual):
        hidden = np.maximum(state["attention.visual.weight"] @ position + state["attention.visual.bias"], 0)
        scores.append(state["attention.score.weight"][0] @ np.tanh(state["attention.visual_score.weight"] @ hidden + guide[n]))
    weights = np.exp(scores) / np.exp(scores).sum()
    return weights @ visual, weights


def segment_probabilities(state: dict, visual: np.ndarray, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One clip: (T, S, D_v), (T, D_a) -> probabilities (T, C+1), attention (T, S)."""
    pooled, weights = zip(*(attended(state, v, a) for v, a in zip(visual, audio, strict=True)), strict=True)
    joined = np.concatenate([bilstm(state, "audio_lstm.lstm", list(audio)), bilstm(state, "visual_lstm.lstm", list(pooled))], axis=1)
    hidden = np.maximum(np.maximum(joined, 0) @ state["classifier.0.weight"].T + state["classifier.0.bias"], 0)
    logits = hidden @ state["classifier.2.weight"].T + state["classifier.2.bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True), np.stack(weights)


@pytest.fixture
def example():
    torch.manual_seed(0)
    lengths = torch.tensor([5, 3])
    mask = torch.arange(5) < lengths[:, None]
    batch = Batch(torch.randn(2, 5, 2, 3, 4).double(), torch.randn(2, 5, 7).double(), mask)
    segments = torch.tensor([[3, 1, 1, 1, 3], [0, 0, 3, 3, 3]])
    return batch, AvelTargets(segments, torch.tensor([1, 0])), lengths.tolist()


def build(**config):
    torch.manual_seed(1)
    widths = {"attention_width": 5, "recurrent_width": 4, "classifier_width": 6}
    return create("avel", visual_shape=(2, 3, 4), audio_shape=(7,), num_classes=CLASSES, **widths, **config).double()


def test_forward_and_losses_equal_the_numpy_restatement(example):
    batch, targets, lengths = example
    paper, released = build(), build(variant="released")
    released.load_state_dict(paper.state_dict())
    scores = paper.predict(batch)
    state = {name: value.numpy() for name, value in paper.state_dict().items()}
    cross_entropies, soft_margins = [], []
    for clip, length in enumerate(lengths):
        visual = batch.visual[clip, :length].reshape(length, POSITIONS, 4).numpy()
        probabilities, weights = segment_probabilities(state, visual, batch.audio[clip, :length].numpy())
        np.testing.assert_allclose(scores.segments[clip, :length].detach(), probabilities, atol=1e-10)
        np.testing.assert_allclose(scores.attention[clip, :length].detach(), weights, atol=1e-10)
        for t in range(length):
            label = int(targets.segments[clip, t])
            cross_entropies.append(-math.log(probabilities[t, label]))
            # the multi-label soft margin, fed with probabilities
            each = [math.log(sigmoid(p)) if c == label else math.log(sigmoid(-p)) for c, p in enumerate(probabilities[t])]
            soft_margins.append(-sum(each) / (CLASSES + 1))
    assert paper.losses(batch, targets, Progress(0, 1))["total"].item() == pytest.approx(np.mean(cross_entropies), abs=1e-10)
    assert released.losses(batch, targets, Progress(0, 1))["total"].item() == pytest.approx(np.mean(soft_margins), abs=1e-10)


def test_released_loss_is_torchs_own_and_nearly_flat(example):
    """From 0.709 for a uniform answer to 0.680 for a perfect one, at 29 labels."""
    uniform, perfect = torch.full((1, 29), 1 / 29), torch.eye(29)[:1]
    criterion = torch.nn.MultiLabelSoftMarginLoss()
    assert criterion(uniform, perfect).item() == pytest.approx(0.7094, abs=1e-4)
    assert criterion(perfect, perfect).item() == pytest.approx(0.6800, abs=1e-3)
    batch, targets, _ = example
    whole = Batch(batch.visual, batch.audio, torch.ones_like(batch.mask))
    method = build(variant="released")
    probabilities = method.predict(whole).segments.flatten(0, 1)
    truth = torch.nn.functional.one_hot(targets.segments.flatten(), CLASSES + 1).double()
    torch.testing.assert_close(method.losses(whole, targets, Progress(0, 1))["total"], criterion(probabilities, truth))


@pytest.mark.parametrize("modality", ["both", "audio", "visual"])
def test_a_modality_alone_sees_only_itself(example, modality):
    batch, _, _ = example
    method = build(modality=modality)
    before = method.predict(batch).segments
    visual = method.predict(Batch(batch.visual + 1, batch.audio, batch.mask)).segments
    audio = method.predict(Batch(batch.visual, batch.audio + 1, batch.mask)).segments
    assert (not torch.equal(before, visual)) == (modality != "audio")
    assert (not torch.equal(before, audio)) == (modality != "visual")


def test_the_published_networks_size():
    method = create("avel", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28)
    assert sum(parameter.numel() for parameter in method.parameters()) == 1_335_246
    recipe = method.config.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs) == ("adam", 1e-3, 64, 300)
