"""The blocks of the networks restated in NumPy, float64, one clip at a time; weights by their names in the state_dict.

Written from the spec's formulas and not from pipeline/layers, so that tests can compare the networks with it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.batch import Batch
from pipeline.methods import Method, Progress, create
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets

CLASSES = 3
LENGTHS = (5, 3, 1)
VISUAL_SHAPE, AUDIO_SHAPE = (2, 3, 4), (7,)


def example() -> tuple[Batch, AvelTargets, VideoTargets]:
    """Three clips of 5, 3 and 1 segments, float64; the last has no event, the second has two classes under weak supervision."""
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(3, 5, *VISUAL_SHAPE, generator=generator, dtype=torch.float64)
    audio = torch.randn(3, 5, *AUDIO_SHAPE, generator=generator, dtype=torch.float64)
    segments = torch.tensor([[3, 1, 1, 1, 3], [0, 0, 3, 3, 3], [3, 3, 3, 3, 3]])
    videos = torch.tensor([[0.0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    return Batch(visual, audio, mask), AvelTargets(segments, torch.tensor([1, 0, 3])), VideoTargets(videos)


def scatter(method: Method, limit: float = 0.7) -> Method:
    """The method in float64 with every weight drawn anew: away from the initial zeros and ones of norms and biases."""
    for parameter in method.double().parameters():
        torch.nn.init.uniform_(parameter, -limit, limit)
    return method


def clips(batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The valid segments of each clip: (T, S, D_v), (T, D_a)."""
    return [
        (batch.visual[clip, :length].reshape(length, 6, 4).numpy(), batch.audio[clip, :length].numpy())
        for clip, length in enumerate(LENGTHS)
    ]  # fmt: skip


def small(name: str, limit: float = 0.7, **config) -> Method:
    """The method for the features of :func:`example`, its weights scattered."""
    torch.manual_seed(1)
    return scatter(create(name, visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **config), limit)


def assert_two_heads(method: Method, reference, extra=None, atol: float = 1e-10) -> None:
    """Scores and losses of a method with two heads; ``reference(visual, audio)`` gives event (T,), classes (K,), attention, and what else.

    Full supervision: binary cross-entropy of the event over all segments, cross-entropy of the class over the clips. Weak: cross-entropy of
    the gated clip logits. ``extra(said)``: from what the reference says of each clip, the further terms by name, the total, or other values
    of the terms above, of which ``wanted`` holds those of the heads.
    """
    batch, segments, videos = example()
    weak = method.config.training_labels == "video"
    scores, terms = method.predict(batch), method.losses(batch, videos if weak else segments, Progress(0, 1))
    said = [reference(*features) for features in clips(batch)]
    events, classes = [], []
    for clip, (event, class_logits, attention, *_) in enumerate(said):
        length, probability = LENGTHS[clip], softmax(class_logits)
        assert_near(scores.event[clip, :length], sigmoid(event), atol)
        assert_near(scores.classes[clip], probability, atol)
        if attention is not None:
            assert_near(scores.attention[clip, :length], attention, atol)
        joint = np.outer(sigmoid(event), probability)[:, :CLASSES]
        assert_near(scores.segments[clip, :length], np.c_[joint, 1 - joint.sum(axis=1)], atol)
        if weak:
            pooled = np.array([max(gate * logit for gate in sigmoid(event)) for logit in class_logits])
            classes.append(video_loss(pooled, videos.labels[clip].numpy(), "cross_entropy"))
        else:
            events += [binary(sigmoid(e), int(label) < CLASSES) for e, label in zip(event, segments.segments[clip], strict=False)]
            classes.append(-np.log(probability[[1, 0, 0][clip]]))  # the clip without an event counts as class 0
    if weak:
        wanted = {"video": np.mean(classes), "total": np.mean(classes)}
    else:
        wanted = {"event": np.mean(events), "class": np.mean(classes), "total": np.mean(events) + np.mean(classes)}
    wanted |= {} if extra is None else extra(said, wanted)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=atol)


def assert_near(found, wanted, atol: float) -> None:
    np.testing.assert_allclose(found.detach(), wanted, atol=atol)


def binary(probability, truth):
    """Binary cross-entropy of one probability."""
    return -(truth * math.log(probability) + (1 - truth) * math.log(1 - probability))


def video_loss(logits, labels, form):
    """The three losses of a clip's logits (K,) against its labels (K,)."""
    probabilities = softmax(logits)
    if form == "cross_entropy":
        return -sum(y * math.log(p) for y, p in zip(labels / labels.sum(), probabilities, strict=True))
    squashed = sigmoid(probabilities) if form == "soft_margin" else probabilities
    return np.mean([binary(p, y) for p, y in zip(squashed, labels, strict=True)])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class Restatement:
    """Blocks over the segments of one clip (T, D), by the prefix of their weights."""

    def __init__(self, method: Method, heads: int = 2) -> None:
        self.state = {name: value.numpy() for name, value in method.state_dict().items()}
        self.heads = heads

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state.get(f"{name}.bias", 0)

    def norm(self, name, x, eps=1e-5):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def single_head(self, name, x, memory):
        return softmax(self.linear(f"{name}.query", x) @ self.linear(f"{name}.key", memory).T) @ self.linear(f"{name}.value", memory)

    def multi_head(self, name, x, memory, heads=None):
        heads = heads or self.heads
        weights = np.split(self.state[f"{name}.in_proj_weight"], 3)
        biases = np.split(self.state[f"{name}.in_proj_bias"], 3)
        q, k, v = (source @ weight.T + bias for source, weight, bias in zip((x, memory, memory), weights, biases, strict=True))
        size = q.shape[1] // heads
        attended = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            attended.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(size)) @ v[:, part])
        return self.linear(f"{name}.out_proj", np.concatenate(attended, axis=1))

    def lstm(self, name, steps, bidirectional=True, layer=0, start=None):
        """(T, D) -> (T, width); ``start`` and ``last``, the final ones, are the (hidden, cell) of each direction."""
        self.last = []
        directions = [("", steps)] + ([("_reverse", steps[::-1])] if bidirectional else [])
        outputs = []
        for number, (suffix, ordered) in enumerate(directions):
            weight_in, weight_hidden, bias_in, bias_hidden = (
                self.state[f"{name}.lstm.{kind}_l{layer}{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            hidden, cell = (np.zeros(weight_hidden.shape[1]),) * 2 if start is None else start[number]
            hiddens = []
            for step in ordered:
                i, f, g, o = np.split(weight_in @ step + bias_in + weight_hidden @ hidden + bias_hidden, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
                hiddens.append(hidden)
            outputs.append(np.stack(hiddens[::-1] if suffix else hiddens))
            self.last.append((hidden, cell))
        return np.concatenate(outputs, axis=1)

    def audio_guided(self, name, positions, audio):
        """AVGA, one segment: (S, D), (D_a,) -> (D,), weights (S,). Component n of the audio's vector is added to the whole row n."""
        guide = self.linear(f"{name}.audio_score", relu(self.linear(f"{name}.audio", audio)))
        rows = self.linear(f"{name}.visual_score", relu(self.linear(f"{name}.visual", positions)))
        scores = [self.state[f"{name}.score.weight"][0] @ np.tanh(row + guide[n]) for n, row in enumerate(rows)]
        weights = softmax(np.array(scores))
        return weights @ positions, weights

    def position_weights(self, name, positions, guide):
        joint = relu(self.linear(f"{name}.position", positions)) * relu(self.linear(f"{name}.guide", guide))
        return softmax(np.tanh(self.linear(f"{name}.score", joint))[:, 0])

    def channel_spatial(self, name, positions, reference, audio):
        """AGVA-CS, one segment: (S, D), (S, D), (D_a,) -> (D,), weights (S,)."""
        query = (relu(self.linear(f"{name}.audio_query", audio)) * relu(self.linear(f"{name}.visual_query", reference))).mean(axis=0)
        gate = sigmoid(self.linear(f"{name}.up", relu(self.linear(f"{name}.down", query))))
        gated = positions * (1 + gate)
        weights = self.position_weights(f"{name}.position_score", gated, audio)
        return weights @ gated, weights

    def calibrated(self, positions, refined, audio, beta):
        """AGVA-CS and CACE-Net's Eqs. 1-2, one segment: (S, D), (S, D), (D_a,) -> (D,), weights (S,)."""
        attended, weights = self.channel_spatial("guidance.visual.channel_spatial", positions, refined, audio)
        calibration = self.position_weights("guidance.visual.calibration", refined, refined.mean(axis=0)) @ refined
        return attended + beta * sigmoid(calibration) * attended, weights

    def intra(self, name, x):
        x = self.linear(f"{name}.project", x)
        for layer in (f"{name}.encoder.layers.0", f"{name}.encoder.layers.1"):
            x = self.norm(f"{layer}.norm1", x + self.multi_head(f"{layer}.self_attn", x, x))
            x = self.norm(f"{layer}.norm2", x + self.linear(f"{layer}.linear2", relu(self.linear(f"{layer}.linear1", x))))
        return x

    def cross(self, name, x, memory):
        q = self.linear(f"{name}.project", x)
        q = self.norm(f"{name}.attention_norm", q + self.multi_head(f"{name}.attention", q, np.concatenate([memory, q])))
        hidden = relu(self.linear(f"{name}.feedforward.0", q))
        return self.norm(f"{name}.feedforward_norm", q + self.linear(f"{name}.feedforward.3", hidden))

    def interaction(self, name, x, y, heads=None):
        joint = x * y
        return self.norm(f"{name}.norm", joint + self.multi_head(f"{name}.attention", joint, np.concatenate([y, x]), heads))

    def reference_branch(self, prefix, stream):
        """CoLeaF's Eqs. 5-7: (T, D) -> tokens (T, D), p (T, C), P (C,), probabilities of the class tokens (C,), None without any."""
        before = self.state.get(f"{prefix}class_tokens", np.zeros((0, stream.shape[1])))
        x, layer = np.concatenate([before, stream]), f"{prefix}attention"
        h = self.norm(f"{layer}.attention_norm", x + self.multi_head(f"{layer}.own", x, x, heads=1))
        hidden = self.linear(f"{layer}.feedforward.3", relu(self.linear(f"{layer}.feedforward.0", h)))
        attended = self.norm(f"{layer}.feedforward_norm", h + hidden)
        classes, tokens = attended[: len(before)], attended[len(before) :]
        p = sigmoid(self.linear(f"{prefix}classifier", tokens))
        clip = (softmax(self.linear(f"{prefix}over_time", tokens).T).T * p).sum(axis=0)
        weight = self.state.get(f"{prefix}token_classifier.weight")
        scores = classes.mean(axis=1) if weight is None else (classes * weight).sum(axis=1) + self.state[f"{prefix}token_classifier.bias"]
        return tokens, p, clip, sigmoid(scores) if len(before) else None
