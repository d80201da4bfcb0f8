"""CACE-Net's forward pass and losses restated in NumPy, float64, clip by clip, from spec and paper; weights from the state_dict."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pipeline.methods import AvelTargets, Batch, Progress, create

CLASSES, HEADS, TOP_K = 3, 2, 2
ALPHA, BETA, GAMMA, PSI, LAMBDA, NOISE, TEMPERATURE, WEIGHT = 0.15, 0.45, 0.35, 0.25, 0.65, 0.1, 0.05, 1.7
WIDTHS = {
    "visual_hidden": 10, "audio_hidden": 6, "attention_width": 5, "width": 8, "heads": HEADS,
    "intra_feedforward": 7, "cross_feedforward": 9, "alpha": ALPHA, "beta": BETA,
    "gamma": GAMMA, "psi": PSI, "lambda_contrast": LAMBDA, "contrast_noise": NOISE,
    "contrast_temperature": TEMPERATURE, "contrast_weight": WEIGHT, "top_k": TOP_K,
}  # fmt: skip
NO_DROPOUT = {"input_dropout": 0.0, "dropout": 0.0, "interaction_dropout": 0.0}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class Reference:
    """One clip at a time: visual (T, S, D_v), audio (T, D_a)."""

    def __init__(self, state: dict[str, np.ndarray], guidance: str, variant: str, temporal: str) -> None:
        self.state, self.guidance, self.variant, self.temporal = state, guidance, variant, temporal

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def single_head(self, name, x, memory):
        return softmax(self.linear(f"{name}.query", x) @ self.linear(f"{name}.key", memory).T) @ self.linear(f"{name}.value", memory)

    def multi_head(self, name, x, memory):
        weights = np.split(self.state[f"{name}.in_proj_weight"], 3)
        biases = np.split(self.state[f"{name}.in_proj_bias"], 3)
        q, k, v = (source @ weight.T + bias for source, weight, bias in zip((x, memory, memory), weights, biases, strict=True))
        size = q.shape[1] // HEADS
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            heads.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(size)) @ v[:, part])
        return self.linear(f"{name}.out_proj", np.concatenate(heads, axis=1))

    def lstm(self, name, steps):
        directions = [("", steps)] + ([("_reverse", steps[::-1])] if self.temporal == "bilstm" else [])
        outputs = []
        for suffix, ordered in directions:
            weight_in, weight_hidden, bias_in, bias_hidden = (
                self.state[f"{name}.lstm.{kind}_l0{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            hidden = cell = np.zeros(weight_hidden.shape[1])
            hiddens = []
            for step in ordered:
                i, f, g, o = np.split(weight_in @ step + bias_in + weight_hidden @ hidden + bias_hidden, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
                hiddens.append(hidden)
            outputs.append(np.stack(hiddens[::-1] if suffix else hiddens))
        return np.concatenate(outputs, axis=1)

    def position_weights(self, name, positions, guide):
        joint = relu(self.linear(f"{name}.position", positions)) * relu(self.linear(f"{name}.guide", guide))
        return softmax(np.tanh(self.linear(f"{name}.score", joint))[:, 0])

    def refined(self, name, positions):
        attended = self.single_head(name, positions, positions)
        return self.norm("guidance.residual.norm", positions + attended) if self.variant == "released" else attended

    def guided_visual(self, positions, audio):
        """Steps 1-3 of AGVA-CS and Eqs. 1-2, one segment: (S, D), (D_a,) -> (D,), weights (S,)."""
        prefix = "guidance.visual.channel_spatial"
        refined = self.refined("guidance.attention", positions)
        query = (relu(self.linear(f"{prefix}.audio_query", audio)) * relu(self.linear(f"{prefix}.visual_query", refined))).mean(axis=0)
        gate = sigmoid(self.linear(f"{prefix}.up", relu(self.linear(f"{prefix}.down", query))))
        gated = positions * (1 + gate)
        weights = self.position_weights(f"{prefix}.position_score", gated, audio)
        channel_spatial = weights @ gated
        calibration = self.position_weights("guidance.visual.calibration", refined, refined.mean(axis=0)) @ refined
        return channel_spatial + BETA * sigmoid(calibration) * channel_spatial, weights

    def guided_audio(self, maps, audio):
        own = self.single_head("guidance.audio.own", audio, audio)
        refined = self.norm("guidance.audio.residual.norm", audio + own) if self.variant == "released" else own
        separate = self.guidance == "both" and self.variant == "released"
        name = "guidance.attention_for_audio" if separate else "guidance.attention"
        squeezed = np.stack([self.refined(name, positions).mean(axis=0) for positions in maps])
        found = self.single_head("guidance.audio.query", squeezed, refined)
        return audio + PSI * sigmoid(found) * audio

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

    def interaction(self, name, x, y):
        joint = x * y
        return self.norm(f"{name}.norm", joint + self.multi_head(f"{name}.attention", joint, np.concatenate([y, x])))

    def encode(self, x):
        return relu(self.linear("contrast_encoder.0", x))

    def __call__(self, visual, audio, contrast):
        maps = relu(self.linear("visual_input.0", visual))
        if "audio_input.0.weight" in self.state:
            audio = relu(self.linear("audio_input.0", audio))
        guided, weights = maps.mean(axis=1), None
        if self.guidance in ("audio", "both"):
            pairs = [self.guided_visual(positions, a) for positions, a in zip(maps, audio, strict=True)]
            guided, weights = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        if self.guidance in ("visual", "both"):
            audio = self.guided_audio(maps, audio)
        if self.temporal != "none":
            guided, audio = self.lstm("visual_lstm", guided), self.lstm("audio_lstm", audio)
        visual_memory, audio_memory = self.intra("relation.visual_intra", guided), self.intra("relation.audio_intra", audio)
        audio_query = self.cross("relation.audio_cross", audio, visual_memory)
        visual_query = self.cross("relation.visual_cross", guided, audio_memory)
        audio_gate = sigmoid(self.linear("suppression.audio_gate", audio_memory))
        visual_gate = sigmoid(self.linear("suppression.visual_gate", visual_memory))
        visual_query, audio_query = visual_query * (1 + ALPHA * audio_gate), audio_query * (1 + ALPHA * visual_gate)
        scores = [self.linear("suppression.visual_scores", visual_query), self.linear("suppression.audio_scores", audio_query)]
        modality = sum(np.sort(each, axis=0)[::-1][:TOP_K].mean(axis=0) for each in scores) / 2
        first = self.interaction("suppression.interaction.visual", visual_query, audio_query)
        second = self.interaction("suppression.interaction.audio", audio_query, first)
        fused = (first + second) / 2
        classes = self.linear("class_head", fused.max(axis=0)) + (GAMMA * modality if self.variant == "released" else 0)
        final = fused + LAMBDA * self.encode(fused) if contrast else fused
        event = sigmoid(self.linear("event_head", final))[:, 0]
        return {
            "event": event, "class_logits": classes, "modality": modality, "gate": (audio_gate * visual_gate)[:, 0], "fused": fused,
            "attention": weights,
        }  # fmt: skip


def build(**config):
    torch.manual_seed(1)
    settings = {**WIDTHS, **NO_DROPOUT, **config}
    method = create("cace_net", visual_shape=(2, 3, 4), audio_shape=(7,), num_classes=CLASSES, **settings).double()
    for parameter in method.parameters():  # away from the initial zeros and ones of norms and biases
        torch.nn.init.uniform_(parameter, -0.7, 0.7)
    return method


@pytest.fixture(scope="module")
def example():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 3, 1])
    visual = torch.randn(3, 5, 2, 3, 4, generator=generator, dtype=torch.float64)
    audio = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    segments = torch.tensor([[3, 1, 1, 1, 3], [0, 0, 3, 3, 3], [3, 3, 3, 3, 3]])
    return Batch(visual, audio, torch.arange(5) < lengths[:, None]), AvelTargets(segments, torch.tensor([1, 0, 3])), lengths.tolist()


def reference(method, batch, lengths, contrast):
    state = {name: value.numpy() for name, value in method.state_dict().items()}
    config = method.config
    network = Reference(state, config.guidance, config.variant, config.temporal)
    return network, [
        network(batch.visual[clip, :length].reshape(length, 6, 4).numpy(), batch.audio[clip, :length].numpy(), contrast)
        for clip, length in enumerate(lengths)
    ]


GRID = [
    *({"guidance": g, "variant": v} for g, v in itertools.product(("none", "audio", "visual", "both"), ("released", "paper"))),
    {"temporal": "lstm"}, {"temporal": "none"}, {"audio_hidden": 7}, {"contrast": False},
]  # fmt: skip


@pytest.mark.parametrize("config", GRID, ids=str)
@pytest.mark.parametrize("active", [False, True], ids=["before", "after"])
def test_prediction_equals_the_numpy_restatement(example, config, active):
    batch, _, lengths = example
    method = build(**config).eval()
    method.contrast_active.fill_(active)
    with torch.no_grad():
        scores = method.predict(batch)
    _, expected = reference(method, batch, lengths, active and method.config.contrast)
    for clip, (length, clip_expected) in enumerate(zip(lengths, expected, strict=True)):
        event, classes = clip_expected["event"], softmax(clip_expected["class_logits"])
        np.testing.assert_allclose(scores.event[clip, :length], event, atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip], classes, atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length, :CLASSES], np.outer(event, classes), atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length, CLASSES], 1 - event, atol=1e-10)
        if clip_expected["attention"] is None:
            assert scores.attention is None
        else:
            np.testing.assert_allclose(scores.attention[clip, :length], clip_expected["attention"], atol=1e-10)


def contrast_of_clip(queries, keys, events):
    """Eq. 7 of one clip, in loops: the sum over its rows."""
    rows = [row / np.linalg.norm(row) for row in (*queries, *keys)]
    half, total = len(queries), 0.0
    for i, row in enumerate(rows):
        others = [j for j in range(2 * half) if j != i]
        positives = [j for j in others if events[j % half]] if events[i % half] else [(i + half) % (2 * half)]
        denominator = sum(math.exp(row @ rows[j] / TEMPERATURE) for j in others)
        total -= math.log(sum(math.exp(row @ rows[j] / TEMPERATURE) for j in positives) / denominator / len(positives))
    return total


def binary(probability, truth):
    return -math.log(probability if truth else 1 - probability)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("gate_loss", ["faithful", "corrected"])
def test_losses_equal_the_numpy_restatement(example, variant, gate_loss):
    """Third clip: no event. Released: class 0 in the class terms; paper: left out of them."""
    batch, targets, lengths = example
    method = build(variant=variant, gate_loss=gate_loss).train()
    torch.manual_seed(5)
    terms = method.losses(batch, targets, Progress(10, 80))
    torch.manual_seed(5)
    noise = torch.randn(3, 5, 8, dtype=torch.float64).numpy()
    network, expected = reference(method, batch, lengths, contrast=True)
    events, gates, classes, modalities, contrast = [], [], [], [], 0.0
    for clip, (length, values) in enumerate(zip(lengths, expected, strict=True)):
        truth = [int(label) < CLASSES for label in targets.segments[clip, :length]]
        events += [binary(value, bit) for value, bit in zip(values["event"], truth, strict=True)]
        opened = sigmoid(values["gate"]) if gate_loss == "faithful" else values["gate"]
        gates += [binary(value, bit) for value, bit in zip(opened, truth, strict=True)]
        if any(truth) or variant == "released":
            label = int(targets.video[clip]) if any(truth) else 0
            classes.append(-math.log(softmax(values["class_logits"])[label]))
            modalities.append(-math.log(softmax(values["modality"])[label]))
        noisy = values["fused"] + NOISE * noise[clip, :length]
        contrast += contrast_of_clip(network.encode(values["fused"]), network.encode(noisy), truth)
    wanted = {
        "event": np.mean(events), "gate": np.mean(gates), "class": np.mean(classes), "modality_class": np.mean(modalities),
        "contrast": contrast / (2 * sum(lengths)),
    }  # fmt: skip
    wanted["total"] = sum(wanted.values()) + (WEIGHT - 1) * wanted["contrast"]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)
