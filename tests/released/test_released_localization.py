"""Methods of localization equal the released code: outputs, losses, and two sums over the gradient of every parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import released_names as names
import torch
from released_answers import FLOAT32, FLOAT64, answers, described, drawn, released_parameters, stored, take_weights
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from pipeline.batch import Batch
from pipeline.layers.multiple_instance import gated_clip_logits
from pipeline.layers.propagation import pair_similarity_loss
from pipeline.methods import Method, Progress, create
from pipeline.methods.cace_net import method as cace_net
from pipeline.methods.shared.inputs import method_inputs
from pipeline.tasks import avel as task
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets

CLASSES = 28
CLIPS, SEGMENTS = 4, 10
EVENTS = {0: (5, 0, 10), 1: (12, 2, 6), 2: (27, 8, 10)}  # by clip: class, first segment, the one behind the last; clip 3 has none


@pytest.fixture(scope="module")
def batch() -> Batch:
    visual, audio = drawn("in:visual", CLIPS, SEGMENTS, 7, 7, 512), drawn("in:audio", CLIPS, SEGMENTS, 128)
    mask = torch.ones(CLIPS, SEGMENTS, dtype=torch.bool)
    return Batch(torch.from_numpy(np.maximum(visual, 0)), torch.from_numpy(np.maximum(audio, 0)), mask)


@pytest.fixture(scope="module")
def targets() -> AvelTargets:
    segments = torch.full((CLIPS, SEGMENTS), CLASSES)
    video = torch.full((CLIPS,), CLASSES)
    for clip, (label, first, end) in EVENTS.items():
        segments[clip, first:end] = video[clip] = label
    return AvelTargets(segments, video)


Parameters = dict[str, nn.Parameter]  # by their released names


def empty(method: str, **config: Any) -> Method:
    return create(method, visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=CLASSES, **config)


def build(method: str, modules: Mapping[str, str], released: str, tolerance: float, **config: Any) -> tuple[Method, Parameters]:
    """The method in evaluation mode with the weights of the released network, and its parameters."""
    network = empty(method, **config)
    parameters = take_weights(network, modules, described("avel_shapes.json")[released])
    if tolerance == FLOAT64:  # of the float32 weights, as there; conversion keeps the parameters that are held above
        network.double()
    return network.eval(), parameters


def gradients(parameters: Parameters) -> dict[str, Tensor]:
    """Of the last backward pass; a parameter that it did not reach has zeros."""
    return {name: torch.zeros_like(held) if held.grad is None else held.grad for name, held in parameters.items()}


def time_first(values: Tensor) -> Tensor:
    """(B, T) -> (T, B, 1), the released order."""
    return values.T.unsqueeze(-1)


# --- CACE-Net -----------------------------------------------------------------------------------------------------------------------------

CACE_NET = {
    # Before the contrast is switched on, F_o is F_av; the released gradients are of the contrast, too, that then has no weight yet.
    "both-switched-off": ("Co-Guide/switch0/", {"lambda_contrast": 0.0}),
    "both": ("Co-Guide/switch1/", {}),
    "audio": ("Audio-Guide/switch1/", {"guidance": "audio"}),
    "audio-as-there": ("Audio-Guide/switch1/", {"psi": 0.0}),  # both directions, one without weight
    "visual": ("Visual-Guide/switch1/", {"guidance": "visual"}),
    "none": ("None/switch1/", {"guidance": "none"}),
}  # fmt: skip


@contextmanager
def contrasted(monkeypatch) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The released noise, and what goes into the contrast: queries and keys, not normalized."""
    noise, seen, contrast = torch.from_numpy(drawn("in:noise", SEGMENTS, CLIPS, 256)), [], cace_net.background_event_contrast

    def recorded(query, key, *rest):
        seen.append((query, key))
        return contrast(query, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda features: noise.transpose(0, 1).to(features.dtype))
        patch.setattr(cace_net, "background_event_contrast", recorded)
        yield seen


@pytest.mark.parametrize("case", CACE_NET)
def test_cace_net(case, batch, targets, monkeypatch):
    prefix, config = CACE_NET[case]
    method, parameters = build("cace_net", names.CACE_NET, "cace_supv_coguide", FLOAT64, gate_loss="faithful", **config)
    method.contrast_active.fill_(True)
    with contrasted(monkeypatch) as contrast:
        losses = method.losses(batch, targets, Progress(0, 1))
    losses["total"].backward()
    outputs, ((query, key),) = method._outputs(method_inputs(method, batch), contrast_active=True), contrast
    with answers("avel_cace.npz", prefix) as released:
        released.equal_all(
            {
                "is_event_logits": time_first(outputs.event_logits),
                "event_logits": outputs.class_logits,
                "av_gate": time_first(outputs.audio_gate.sigmoid() * outputs.visual_gate.sigmoid()),
                "av_score": outputs.modality_logits,
                "q": normalize(query, dim=-1),
                "k": normalize(key, dim=-1),
                "loss_is_event": losses["event"],
                "loss_event_class": losses["class"],
                "label_is_gate": losses["gate"],
                "loss_cas": losses["modality_class"],
                "loss_contrastive": losses["contrast"],
                "loss": losses["total"] - losses["contrast"],
            },
            FLOAT64,
        )
        released.equal_gradients(gradients(parameters), FLOAT64)


def test_cace_net_before_the_switch_answers_as_without_lambda(batch):
    """What lets the case above stand for the switch that is off."""
    off, _ = build("cace_net", names.CACE_NET, "cace_supv_coguide", FLOAT64)
    without, _ = build("cace_net", names.CACE_NET, "cace_supv_coguide", FLOAT64, lambda_contrast=0.0)
    without.contrast_active.fill_(True)
    with torch.no_grad():
        one, other = off.predict(batch), without.predict(batch)
    torch.testing.assert_close(one.event, other.event, rtol=0, atol=FLOAT64)
    torch.testing.assert_close(one.classes, other.classes, rtol=0, atol=FLOAT64)


# --- the others ---------------------------------------------------------------------------------------------------------------------------


def cmran(method, batch, losses):
    outputs = method.heads(method_inputs(method, batch))
    return {
        "is_event_logits": time_first(outputs.event), "event_logits": outputs.classes, "loss_is_event": losses["event"],
        "loss_event_class": losses["class"],
    }  # fmt: skip


def cmran_weak(method, batch, losses):
    outputs = method.heads(method_inputs(method, batch))
    pooled = gated_clip_logits(outputs.event.sigmoid(), outputs.classes, batch.mask)
    return {"is_event_logits": outputs.event, "raw_logits": outputs.classes, "video_probs": pooled.softmax(dim=-1)}


def cmbs(method, batch, losses):
    suppressed, event, classes = method._heads(method._related(method_inputs(method, batch))[0], batch.mask)
    return {
        "is_event_logits": time_first(event), "event_logits": classes, "av_score": suppressed.modality_logits,
        "av_gate": time_first(suppressed.audio_gate.sigmoid() * suppressed.visual_gate.sigmoid()),
        "loss_is_event": losses["event"], "loss_event_class": losses["class"], "loss_gate": losses["gate"],
        "loss_cas": losses["modality_class"],
    }  # fmt: skip


def cmbs_weak(method, batch, losses):
    outputs = method.weak_head(method._related(method_inputs(method, batch))[0], batch.mask)
    probabilities = gated_clip_logits(outputs.gate, outputs.clip, batch.mask).softmax(dim=-1)
    event = method.predict(batch).event  # as published: the gate, squashed once more
    return {"av_gate": outputs.gate, "raw_logits": outputs.clip, "video_probs": probabilities, "min_sigmoid_of_gate": event.min()}


def psp(method, batch, losses):
    propagated = []
    with method.propagation.register_forward_hook(lambda module, inputs, output: propagated.append(output)):
        logits, similarity, _ = method._logits(method_inputs(method, batch))
    return {
        "fusion": sum(propagated[0]) / 2, "logits": logits, "cross_sim": similarity, "loss_cls": losses["segments"],
        "loss_avps": losses["pair"],
    }  # fmt: skip


def segment_scores(method, batch, losses):
    """PSP and AVEL, weakly supervised; the clip's probabilities by the one's mean and the other's maximum."""
    logits = method._logits(method_inputs(method, batch))[0]
    pooled = logits.mean(dim=1) if type(method).__name__ == "Psp" else logits.amax(dim=1)
    return {"seg_scores": logits, "video_probs": pooled.softmax(dim=-1)}


def probabilities(method, batch, losses):
    return {"probs": method.predict(batch).segments}


WEAK = {"supervision": "weak"}
OTHERS = {
    "cmran_supv": ("cmran", names.CMRAN, {}, FLOAT64, cmran),
    "cmran_weak": ("cmran", names.CMRAN, {**WEAK, "video_loss": "soft_margin"}, FLOAT64, cmran_weak),
    "cmbs_supv": ("cmbs", names.CMBS_FULL, {"gate_loss": "faithful"}, FLOAT64, cmbs),
    "cmbs_weak": ("cmbs", names.CMBS_WEAK, {**WEAK, "video_loss": "soft_margin", "weak_evaluation": "published"}, FLOAT64, cmbs_weak),
    "psp_supv": ("psp", names.PSP_FULL, {}, FLOAT32, psp),
    "psp_weak": ("psp", names.PSP_WEAK, {**WEAK, "video_labels": "proportions"}, FLOAT32, segment_scores),
    "avel_att": ("avel", names.AVEL_ATT, {"variant": "released"}, FLOAT32, probabilities),
    "avel_dmrn": ("avel", names.DMRN, {"variant": "released", "fusion": "dmrn"}, FLOAT32, probabilities),
    "avel_weak": ("avel", names.AVEL_ATT, {**WEAK, "variant": "released"}, FLOAT32, segment_scores),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_others(case, batch, targets):
    name, modules, config, tolerance, outputs_of = OTHERS[case]
    method, parameters = build(name, modules, case, tolerance, **config)
    labels = targets
    if config.get("supervision") == "weak":
        rows = one_hot(targets.segments, CLASSES + 1).double()
        clips = rows.mean(dim=1) if "video_labels" in config else one_hot(targets.video, CLASSES + 1).double()
        labels = VideoTargets(clips.to(next(method.parameters()).dtype))
    losses = method.losses(batch, labels, Progress(0, 1))
    losses["total"].backward()
    with answers("avel_others.npz", f"{case}/") as released, torch.no_grad():
        released.equal_all({"loss": losses["total"], **outputs_of(method, batch, losses)}, tolerance)
        if "acc" in released.arrays:
            decided = task.decide(method.predict(batch), batch.mask)
            released.equal("acc", 100 * (decided == targets.segments).double().mean(), FLOAT64)
        if case == "psp_supv":
            released.equal("soft", wanted_shares(targets), FLOAT32)
        released.equal_gradients(gradients(parameters), tolerance)


def wanted_shares(targets: AvelTargets) -> Tensor:
    """Even shares of the event segments, of all without one: where the pair similarity loss of every clip is zero."""
    event, mask = targets.segments < CLASSES, torch.ones(1, SEGMENTS, dtype=torch.bool)
    shares = torch.where(event.any(dim=1, keepdim=True), event, True).float()
    shares = shares / shares.sum(dim=1, keepdim=True)
    for clip in range(CLIPS):
        assert pair_similarity_loss(shares[clip : clip + 1], event[clip : clip + 1], mask) < 1e-12
    return shares


# --- nothing left out ---------------------------------------------------------------------------------------------------------------------


def test_every_answer_belongs_to_a_case():
    prefixes = {"avel_cace.npz": [prefix for prefix, _ in CACE_NET.values()], "avel_others.npz": [f"{case}/" for case in OTHERS]}
    for file, cases in prefixes.items():
        assert not [key for key in stored(file) if not key.startswith(tuple(cases))]


@pytest.mark.parametrize("case", OTHERS)
def test_parameters_that_are_not_here_are_never_used_there(case):
    """What we leave out is exactly what no released forward pass reaches."""
    name, modules, config, _, _ = OTHERS[case]
    with torch.device("meta"):  # shapes alone
        parameters = released_parameters(empty(name, **config), modules)
    shapes, described_as = described("avel_shapes.json")[case], described("avel_params.json")[case]
    assert shapes.keys() - parameters.keys() == set(described_as["unused"])
    assert sum(math.prod(shape) for shape in shapes.values()) == described_as["params"]
    assert sum(held.numel() for held in parameters.values()) == described_as["params"] - described_as["never_used"]


def test_parameters_of_cace_net_that_are_not_here_have_no_gradient_there():
    with torch.device("meta"):
        parameters = released_parameters(empty("cace_net"), names.CACE_NET)
    shapes = described("avel_shapes.json")["cace_supv_coguide"]
    used = {key.split("gsum/")[1] for key in stored("avel_cace.npz") if key.startswith("Co-Guide/switch1/gsum/")}
    assert parameters.keys() == used
    assert sum(math.prod(shape) for shape in shapes.values()) == 13_118_681
    assert sum(held.numel() for held in parameters.values()) == 9_283_417
