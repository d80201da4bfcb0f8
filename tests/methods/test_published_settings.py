"""Published dropout rates and their places, initial weights, and default settings of localization methods.

The restatements run without dropout and with other weights, so they cannot check these.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from pipeline.batch import Batch
from pipeline.methods import Method, Progress, create
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets

CLASSES = 3


def build(name: str, **config) -> Method:
    torch.manual_seed(0)
    return create(name, visual_shape=(2, 2, 8), audio_shape=(128,), num_classes=CLASSES, **config)


def dropouts(method: Method) -> dict[tuple[str, float], int]:
    """(part of the network, rate) -> how often a training step drops out there: calls of modules, and attention weights."""
    calls: Counter[tuple[str, float]] = Counter()
    for path, module in method.named_modules():
        part = path.split(".")[0]
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, *_, part=part: calls.update([(part, module.p)]))
        elif isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(lambda module, *_, part=part: calls.update([(f"{part}, attention", module.dropout)]))
    batch = Batch(torch.randn(2, 4, 2, 2, 8), torch.randn(2, 4, 128), torch.ones(2, 4, dtype=torch.bool))
    weak = VideoTargets(torch.eye(CLASSES + 1)[:2])
    full = AvelTargets(torch.tensor([[3, 1, 1, 3], [0, 0, 0, 0]]), torch.tensor([1, 0]))
    method.train().losses(batch, weak if method.config.training_labels == "video" else full, Progress(0, 80))
    return dict(calls)


# A layer of ITR: inside the FFN, after it, after attention, and its weights; CMRA the same. Two ITR of two layers, two CMRA: 6 blocks.
RELATION = {("relation", 0.1): 6 * 3, ("relation, attention", 0.1): 6}
CMBS_LIKE = {("visual_input", 0.2): 1, **RELATION, ("suppression", 0.1): 2, ("suppression, attention", 0.2): 2}


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("avel", {}, {}),
        ("cmran", {}, {("visual_input", 0.2): 1, **RELATION, ("interaction", 0.1): 1, ("interaction, attention", 0.1): 1}),
        ("psp", {}, {("propagation", 0.1): 6}),
        ("psp", {"supervision": "weak"}, {("propagation", 0.1): 4}),
        ("cmbs", {}, {**CMBS_LIKE, ("guidance", 0.2): 1}),
        (
            "cmbs",
            {"supervision": "weak"},
            {
                ("visual_input", 0.1): 1, ("guidance", 0.2): 1, **RELATION, ("weak_head", 0.1): 2, ("weak_head, attention", 0.2): 2,
            },
        ),
        ("cace_net", {}, {**CMBS_LIKE, ("guidance", 0.2): 3}),  # both visual self-attentions and the audio's
        ("cace_net", {"variant": "paper"}, CMBS_LIKE),
    ],
    ids=str,
)  # fmt: skip
def test_dropout_is_where_it_is_published(name, config, expected):
    assert dropouts(build(name, **config)) == expected


@pytest.mark.parametrize("name", ["cmran", "cmbs", "cace_net"])
def test_both_layers_of_a_modalitys_relation_start_alike(name):
    relation = build(name).relation
    for encoder in (relation.visual_intra.encoder, relation.audio_intra.encoder):
        first, second = (layer.state_dict() for layer in encoder.layers)
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(relation.visual_intra.encoder.layers[0].linear1.weight, relation.audio_intra.encoder.layers[0].linear1.weight)


@pytest.mark.parametrize("config", [("avel", {}), ("avel", {"fusion": "dmrn"}), ("psp", {}), ("psp", {"supervision": "weak"})], ids=str)
def test_linear_layers_of_avel_and_psp_start_xavier_uniform(config):
    """Over all of them: uniform in +-a, a = sqrt(6 / (in + out)); torch's own start is uniform in +-sqrt(1 / in)."""
    layers = [layer for layer in build(config[0], **config[1]).modules() if isinstance(layer, nn.Linear)]
    shares = torch.cat([layer.weight.flatten() / (6 / (layer.in_features + layer.out_features)) ** 0.5 for layer in layers])
    assert len(layers) >= 7
    assert 0.999 < shares.abs().max() <= 1
    assert shares.abs().mean().item() == pytest.approx(0.5, abs=0.01)


def test_the_numbers_of_cace_nets_paper_are_its_defaults():
    config = build("cace_net").config
    assert (config.beta, config.psi, config.alpha, config.gamma, config.top_k) == (0.4, 0.3, 0.1, 0.3, 4)
    assert (config.lambda_contrast, config.contrast_weight, config.contrast_temperature, config.contrast_noise) == (0.6, 1.0, 0.01, 0.1)
    assert (config.augmentation, config.contrast_mixup, config.spiking_steps, config.enhanced_heads) == ("noise", 0.1, 15, "event")
    assert (config.variant, config.guidance, config.temporal, config.contrast) == ("released", "both", "bilstm", True)
