"""Methods of parsing equal the released code: outputs, every term of CoLeaF's losses, and the labels that denoising removes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import released_names as names
import torch
from released_answers import FLOAT32, Answers, answers, described, released_parameters, stored, take_weights
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.batch import Batch
from pipeline.layers.parsing_losses import stream_contrast
from pipeline.methods import Method, Progress, create
from pipeline.methods.cmpae import evidence
from pipeline.methods.coleaf import method as coleaf
from pipeline.methods.shared.anchor import Anchored
from pipeline.tasks.labels import VideoTargets

CLIPS, SEGMENTS, FRAMES, CLASSES = 4, 10, 8, 25
CLIPS_OF_CLASS = [
    4988, 624, 528, 761, 192, 343, 455, 218, 299, 602, 186, 1172, 437, 1457, 495, 146, 445, 224, 411, 587, 503, 99, 430, 291, 164,
]  # fmt: skip
SETTINGS = {"han": {}, "jomold": {"denoise": False}, "cmpae": {"denoise": False}}
SHARES = torch.tensor([1.0, 0.5, 0.0, 0.25])  # by clip, in the place of Eqs. 9-11


def example(seed: int) -> tuple[Batch, VideoTargets]:
    """Features and labels that are a function of the seed, drawn in the order of goldens/README.md."""
    rng = np.random.default_rng(seed)
    audio = np.abs(rng.standard_normal((CLIPS, SEGMENTS, 128)))
    frames = 0.5 * np.abs(rng.standard_normal((CLIPS, SEGMENTS * FRAMES, 2048)))
    motion = np.abs(rng.standard_normal((CLIPS, SEGMENTS, 512)))
    labels = torch.zeros(CLIPS, CLASSES + 1)
    for clip in range(CLIPS):
        number = rng.choice([1, 2, 3], p=[0.4, 0.59, 0.01])
        labels[clip, rng.choice(CLASSES, number, replace=False, p=np.array(CLIPS_OF_CLASS) / sum(CLIPS_OF_CLASS))] = 1
    visual, audio, moving = (torch.from_numpy(features.astype(np.float32)) for features in (frames, audio, motion))
    mask = torch.ones(CLIPS, SEGMENTS, dtype=torch.bool)
    return Batch(visual.unflatten(1, (SEGMENTS, FRAMES)), audio, mask, {"motion": moving}), VideoTargets(labels)


def build(name: str, **config) -> Method:
    return create(
        name, visual_shape=(FRAMES, 2048), audio_shape=(128,), num_classes=CLASSES, other_shapes={"motion": (512,)}, **config
    ).eval()  # fmt: skip


def clip_and_segments(said: Anchored) -> dict[str, Tensor]:
    return {
        "global_prob": said.clip, "a_prob": said.clip_audio, "v_prob": said.clip_visual,
        "frame_prob": torch.stack([said.audio, said.visual], dim=2),
    }  # fmt: skip


def uncertainties(said: Anchored, opinions: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """CMPAE's uncertainties in one pass; those of segments from its four opinions (audio, its clip, visual, its clip).

    The released uncertainty of a whole clip has no dimension of size 1.
    """
    parsed = said.parsed
    segments = torch.stack([opinions[0][1], opinions[2][1]], dim=2)
    return {
        "global_uct": parsed.clip_uncertainty[:, 0], "a_uct": parsed.audio.uncertainty, "v_uct": parsed.visual.uncertainty,
        "frame_uct": segments,
    }  # fmt: skip


@pytest.fixture
def opinions(monkeypatch) -> list[tuple[Tensor, Tensor]]:
    """(probability, uncertainty) of every pair of evidences, in the order in which they are formed."""
    formed, opinion = [], evidence.opinion
    monkeypatch.setattr(evidence, "opinion", lambda *pair: formed.append(opinion(*pair)) or formed[-1])
    return formed


def after_attention(released: Answers, said: Anchored) -> None:
    """Similarities of the two streams, and their contrast, worked out from the released similarities and own segments."""
    similarity = normalize(said.audio_tokens, dim=-1) @ normalize(said.visual_tokens, dim=-1).transpose(1, 2) / 0.2
    released.equal("sims_after", similarity.flatten(0, 1), FLOAT32)
    shares = np.exp(released.arrays["sims_after"])
    own = (shares / shares.sum(axis=1, keepdims=True))[np.arange(CLIPS * SEGMENTS), released.arrays["mask_after"]]
    contrast = -np.log(0.9 * own + 0.1 / (SEGMENTS - 1) * (1 - own)).mean()
    ours = stream_contrast(said.audio_tokens, said.visual_tokens, torch.ones(CLIPS, SEGMENTS, dtype=torch.bool))
    assert float(ours) == pytest.approx(contrast, abs=FLOAT32)
    released.compared.add("mask_after")


# --- one network each ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_han():
    batch, _ = example(11)
    method = build("han")
    take_weights(method, names.HAN, described("avvp_shapes.json")["han"])
    with answers("avvp_namefilled.npz", "han/") as released:
        released.equal_all(clip_and_segments(method.anchor_forward(method.inputs(batch))), FLOAT32)


@pytest.mark.parametrize("cross", [True, False])
@torch.no_grad()
def test_jomold(cross):
    batch, _ = example(13)
    method = build("jomold")
    take_weights(method, names.HAN, described("avvp_shapes.json")["jomold"])
    said = method.anchor_forward(method.inputs(batch), cross)
    with answers("avvp_namefilled.npz", f"jomold/ca{cross:d}/") as released:
        released.equal_all(clip_and_segments(said), FLOAT32)
        after_attention(released, said)


@pytest.mark.parametrize("cross", [True, False])
@torch.no_grad()
def test_cmpae(cross, opinions):
    batch, _ = example(21)
    method = build("cmpae")
    take_weights(method, names.CMPAE, described("avvp_shapes.json")["cmpae"])
    said = method.anchor_forward(method.inputs(batch), cross)
    with answers("avvp_namefilled.npz", f"cmpae/ca{cross:d}/") as released:
        released.equal_all(clip_and_segments(said) | uncertainties(said, opinions), FLOAT32)
        after_attention(released, said)


# --- CoLeaF -------------------------------------------------------------------------------------------------------------------------------


def branches(method: Method) -> dict[str, tuple[nn.Module, dict[str, str]]]:
    """The three released networks, their names with them; in the released code each has a file of its own."""
    references = method.references
    front_end = references.front_end
    audio = nn.ModuleDict({"audio": front_end.audio, "branch": references.audio})
    visual = nn.ModuleDict(
        {"visual": front_end.visual, "motion": front_end.motion, "fusion": front_end.fusion, "branch": references.visual}
    )
    return {
        "coleaf_anchor": (method.anchor, names.CMPAE), "coleaf_ref_a": (audio, names.AUDIO_REFERENCE),
        "coleaf_ref_v": (visual, names.VISUAL_REFERENCE),
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> Method:
    """CoLeaF with the released weights; labels are not denoised, as there."""
    method = build("coleaf", anchor_settings={"denoise": False})
    for name, (network, modules) in branches(method).items():
        take_weights(network, modules, described("avvp_shapes.json")[name])
    return method


def before_and_after(tokens: Tensor, name: str) -> dict[str, Tensor]:
    """Tokens of unit length, and their means over five segments."""
    halves = tokens.unflatten(1, (2, SEGMENTS // 2)).mean(dim=2)
    return {f"{name}_before": normalize(tokens, dim=-1), f"{name}_after": normalize(halves, dim=-1)}


@pytest.mark.parametrize("cross", [True, False])
@torch.no_grad()
def test_coleafs_anchor(trained, cross, opinions):
    batch, _ = example(31)
    said = trained.anchor.anchor_forward(trained.anchor.inputs(batch), cross)
    with answers("avvp_namefilled.npz", f"coleaf/anchor/ca{cross:d}/") as released:
        released.equal_all(clip_and_segments(said) | uncertainties(said, opinions), FLOAT32)
        released.equal_all(before_and_after(said.audio_tokens, "xa") | before_and_after(said.visual_tokens, "xv"), FLOAT32)


@pytest.mark.parametrize(("modality", "letter"), [("audio", "a"), ("visual", "v")])
@torch.no_grad()
def test_coleafs_references(trained, modality, letter):
    batch, _ = example(31)
    visual, audio, motion, mask = trained.inputs(batch)
    said = trained.references.embed_audio(audio, mask) if modality == "audio" else trained.references.embed_visual(visual, motion, mask)
    outputs = {"prob": said.clip, "frame_prob": said.segments, "cls": said.classes, **before_and_after(said.tokens, "x")}
    with answers("avvp_namefilled.npz", f"coleaf/ref_{letter}/") as released:
        released.equal_all(outputs, FLOAT32)


LOSSES = {
    "bce_a": "audio", "bce_v": "visual", "bce_g": "clip", "nce_av": "contrast", "asl_a_Pa": "reference_audio", "asl_v_Pv":
    "reference_visual", "asl_a_cls": "tokens_audio", "asl_v_cls": "tokens_visual", "asl_a_G": "self_modality_audio", "asl_v_G":
    "self_modality_visual", "cc_a": "co_occurrence_audio", "cc_v": "co_occurrence_visual", "evt_a_w": "event_audio", "evt_v_w":
    "event_visual",
}  # fmt: skip


def test_every_term_of_coleaf(trained, monkeypatch):
    """By the steps of a batch in the fourth epoch, when all have begun; the mutual loss in an even and in an odd batch."""
    batch, targets = example(31)
    monkeypatch.setattr(coleaf, "unaligned_shares", lambda audio, visual, threshold: (SHARES, SHARES))
    terms: list[dict[str, Tensor]] = [{}, {}]
    for parity, merged in enumerate(terms):
        for step in trained.steps(batch, targets, Progress(3, 10, parity)):
            merged |= step
    with answers("avvp_namefilled.npz", "coleaf/loss/") as released:
        ours = {theirs: terms[0][own] for theirs, own in LOSSES.items()}
        ours |= {f"mutual{parity}": merged["mutual"] for parity, merged in enumerate(terms)}
        released.equal_all(ours, FLOAT32)


# --- denoising ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["jomold", "cmpae"])
def test_denoising_removes_the_same_labels(method, tmp_path, monkeypatch):
    """From the published ratios and the probabilities that a network gave for 128 clips; nothing is removed in the first epoch."""
    with answers("denoise.npz") as released:
        given = {name: released.arrays[name] for name in ("a_prob", "v_prob", "label", "noise_audio", "noise_visual")}
        released.compared |= given.keys()  # what goes in
        np.savez(tmp_path / "ratios.npz", audio=given["noise_audio"], visual=given["noise_visual"])
        network = build(method, noise_ratios=tmp_path / "ratios.npz")
        network.prepare(None, lambda: iter(()))
        audio, visual, labels = (torch.from_numpy(given[name]) for name in ("a_prob", "v_prob", "label"))
        monkeypatch.setattr(type(network), "alone", lambda self, inputs: (audio, visual))
        counted = torch.ones(len(labels), dtype=torch.bool)
        for epoch, suffix in ((0, "before"), (1, "after")):
            ours = network.modality_targets(None, (labels, labels), counted, Progress(epoch, 10))
            for modality, targets in zip(("Pa", "Pv"), ours, strict=True):
                released.equal(f"{modality}_{suffix}", targets, 1e-7)
        removed = [(released.arrays[f"{modality}_before"] != released.arrays[f"{modality}_after"]).sum() for modality in ("Pa", "Pv")]
        assert min(removed) > 0


# --- nothing left out ---------------------------------------------------------------------------------------------------------------------


def test_every_answer_belongs_to_a_test():
    passes = [f"{network}/ca{cross}/" for network in ("jomold", "cmpae", "coleaf/anchor") for cross in (0, 1)]
    prefixes = ("han/", *passes, "coleaf/ref_a/", "coleaf/ref_v/", "coleaf/loss/")
    assert not [key for key in stored("avvp_namefilled.npz") if not key.startswith(prefixes)]


TOTALS = {
    "han": 9_307_723, "jomold": 4_571_723, "cmpae": 5_660_822, "coleaf_anchor": 5_686_422, "coleaf_ref_a": 2_735_154,
    "coleaf_ref_v": 4_505_650,
}  # fmt: skip


def test_parameters_that_are_not_here_are_listed():
    """Released parameters, less what is listed as never used, are ours."""
    networks = {"han": (build("han"), names.HAN), "jomold": (build("jomold"), names.HAN), "cmpae": (build("cmpae"), names.CMPAE)}
    networks |= branches(build("coleaf"))
    assert networks.keys() == names.UNUSED.keys() == described("avvp_shapes.json").keys()
    for name, (network, modules) in networks.items():
        shapes = described("avvp_shapes.json")[name]
        unused = {parameter for parameter in shapes if parameter.startswith(tuple(f"{module}." for module in names.UNUSED[name]))}
        unused |= shapes.keys() & set(names.UNUSED[name])
        assert shapes.keys() - released_parameters(network, modules).keys() == unused, name
        assert sum(math.prod(shape) for shape in shapes.values()) == TOTALS[name]
