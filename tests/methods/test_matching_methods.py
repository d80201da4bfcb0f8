"""Methods of cross-modality localization: their contract, and each restated in NumPy, float64, one window at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import safetensors.torch
import torch
from flat_gradients import assert_all_but_flat, doubled
from pydantic import ValidationError
from restatement import AUDIO_SHAPE, CLASSES, LENGTHS, VISUAL_SHAPE, Restatement, clips, example, relu, scatter, sigmoid, softmax

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods import METHODS, Progress, create
from pipeline.tasks import cml
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.cml import MatchingTargets

NARROW = {
    "avdln": {"hidden": 12, "width": 8},
    "dam": {"width": 8, "heads": 2},
    "ccln_matching": {"width": 8, "heads": 2, "feedforward": 12},
}
OFF = {"gated": False, "foreground_enhancement": False, "contrast": False}
CASES = [*((name, {}) for name in NARROW), ("ccln_matching", OFF)]
every_case = pytest.mark.parametrize(("name", "switches"), CASES, ids=lambda value: value if isinstance(value, str) else "-".join(value))
PROGRESS = Progress(0, 1)


def build(name, switches, seed=0, dropout=0.0, **settings):
    torch.manual_seed(seed)
    plain = {} if name == "avdln" else {"dropout": dropout}
    return create(
        name, visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **{**NARROW[name], **plain, **switches, **settings}
    )  # fmt: skip


def batch_of(clips_=4, segments=6, seed=1) -> tuple[Batch, MatchingTargets]:
    """Noise with one unbroken event per clip, which never fills the clip."""
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(clips_, segments, *VISUAL_SHAPE, generator=generator)
    audio = torch.randn(clips_, segments, *AUDIO_SHAPE, generator=generator)
    length = torch.randint(2, segments, (clips_, 1), generator=generator)
    start = (torch.rand(clips_, 1, generator=generator) * (segments - length + 1)).long()
    place = torch.arange(segments)
    labels = torch.nn.functional.one_hot(torch.randint(CLASSES, (clips_,), generator=generator), CLASSES).float()
    return Batch(visual, audio, torch.ones(clips_, segments, dtype=torch.bool)), MatchingTargets(
        (place >= start) & (place < start + length), labels
    )


def test_every_matching_method_is_here():
    assert set(NARROW) == {name for name in METHODS.names() if "cml" in METHODS.get(name).tasks}


@every_case
def test_shapes_and_other_targets(name, switches):
    method = build(name, switches, dropout=0.1).train()
    batch, targets = batch_of()
    terms = method.losses(batch, targets, PROGRESS)
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    scores = method.eval().predict(batch)
    assert scores.audio_to_visual.shape == scores.visual_to_audio.shape == (4, 6, 6, 6)
    with pytest.raises(TypeError, match="AvelTargets"):
        method.losses(batch, AvelTargets(torch.zeros(4, 6), torch.zeros(4)), PROGRESS)
    with pytest.raises(PipelineError, match=r"audio.*\(8,\)"):
        method.predict(Batch(batch.visual, torch.zeros(4, 6, 8), batch.mask))
    with pytest.raises(ValidationError, match="no_such"):
        build(name, switches, no_such=1)


@pytest.mark.processor
@every_case
def test_every_parameter_gets_a_gradient(name, switches):
    method = build(name, switches, dropout=0.1).double().train()
    batch, targets = batch_of()
    targets = MatchingTargets(targets.event, targets.labels.double())
    method.losses(doubled(batch), targets, PROGRESS)["total"].backward()
    assert_all_but_flat(method, {key: weight.grad for key, weight in method.named_parameters() if weight.grad is not None})


@pytest.mark.processor
@every_case
def test_alone_as_in_a_batch_cut_short_as_padded_and_blind_to_padding(name, switches):
    method = build(name, switches).train()
    batch, targets = batch_of()
    mask = torch.arange(6) < torch.tensor([6, 4, 1, 0])[:, None]
    event = targets.event & mask
    filled, losses = [], []
    for fill in (0.0, float("nan")):
        visual = torch.where(mask[:, :, None, None, None], batch.visual, torch.tensor(fill))
        audio = torch.where(mask[:, :, None], batch.audio, torch.tensor(fill))
        filled.append(Batch(visual, audio, mask))
        said = MatchingTargets(event | (~mask if fill else False), targets.labels)
        method.zero_grad()
        losses.append(method.losses(filled[-1], said, PROGRESS))
        losses[-1]["total"].backward()
        assert all(weight.grad.isfinite().all() for weight in method.parameters())
    assert losses[0].keys() == losses[1].keys()
    for term in losses[0]:
        torch.testing.assert_close(losses[0][term], losses[1][term])
    method.eval()
    with torch.no_grad():
        padded = method.predict(filled[1])
        short = method.predict(Batch(batch.visual[1:2, :4], batch.audio[1:2, :4], torch.ones(1, 4, dtype=torch.bool)))
    for whole, cut in ((padded.audio_to_visual, short.audio_to_visual), (padded.visual_to_audio, short.visual_to_audio)):
        for length in range(1, 5):
            fitting = slice(4 - length + 1)
            torch.testing.assert_close(
                whole[1, length - 1, fitting, fitting], cut[0, length - 1, fitting, fitting], atol=1e-5, rtol=1e-4
            )  # fmt: skip


@every_case
def test_the_given_modality_is_used_only_within_its_window(name, switches):
    """Audio outside the given window changes no answer; visual features there do, because the searched modality is fully known."""
    method = build(name, switches).double().eval()
    batch, _ = batch_of()
    batch = Batch(batch.visual.double(), batch.audio.double(), batch.mask)
    other = batch.audio.clone()
    other[:, [0, 1, 5]] += 1
    with torch.no_grad():
        first, second = method.predict(batch), method.predict(Batch(batch.visual, other, batch.mask))
    torch.testing.assert_close(first.audio_to_visual[:, 2, 2, :4], second.audio_to_visual[:, 2, 2, :4])  # sound of [2, 5)
    assert not torch.allclose(first.audio_to_visual[:, 2, 1, :4], second.audio_to_visual[:, 2, 1, :4])
    assert not torch.allclose(first.visual_to_audio[:, 2, 2, :4], second.visual_to_audio[:, 2, 2, :4])


@every_case
@pytest.mark.fault(32)
def test_saved_and_trained_alike_and_finite_without_events(name, switches, tmp_path):
    def trained():
        method = build(name, switches, seed=3, dropout=0.1).train()
        optimizer = torch.optim.Adam(method.parameters(), 1e-2)
        batch, targets = batch_of()
        for truth in (targets, MatchingTargets(torch.zeros_like(targets.event), torch.zeros_like(targets.labels))):
            optimizer.zero_grad()
            method.losses(batch, truth, PROGRESS)["total"].backward()
            optimizer.step()
        return method

    first, second = trained(), trained()
    assert all(torch.equal(value, second.state_dict()[key]) and value.isfinite().all() for key, value in first.state_dict().items())
    safetensors.torch.save_file(first.state_dict(), tmp_path / "weights.safetensors")
    restored = build(name, switches, seed=9)
    restored.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    batch, _ = batch_of()
    one, other = first.eval().predict(batch), restored.eval().predict(batch)
    assert torch.equal(one.audio_to_visual, other.audio_to_visual)
    assert torch.equal(one.visual_to_audio, other.visual_to_audio)


@pytest.mark.processor
@every_case
def test_learns_sixteen_clips_by_heart(name, switches):
    method = build(name, switches).train()
    batch, targets = batch_of(16)
    optimizer = torch.optim.Adam(method.parameters(), 2e-2)
    metrics: dict[str, float] = {}
    for step in range(600):
        optimizer.zero_grad()
        method.losses(batch, targets, PROGRESS)["total"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 24:  # the number of steps depends on rounding
            with torch.no_grad():
                decided = cml.decide(method.eval().predict(batch), batch.mask)
            metrics = cml.score(decided, targets, batch.mask, CLASSES, 1.0)
            if metrics["accuracy"] >= 95:
                break
            method.train()
    assert metrics["accuracy"] >= 95
    assert max(metrics["baseline_first"], metrics["baseline_last"], metrics["baseline_chance"]) < 60


@pytest.mark.processor
@every_case
def test_bfloat16_autocast(name, switches):
    method = build(name, switches).train()
    batch, targets = batch_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.losses(batch, targets, PROGRESS)
        terms["total"].backward()
        scores = method.predict(batch)
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    assert scores.audio_to_visual.dtype == torch.float32


# Restatements: three clips of 5, 3 and 1 segments, the last without an event.
EVENTS = [[0, 1, 1, 1, 0], [1, 1, 0], [0]]
LABELS = [{1}, {0}, set()]


def truth() -> MatchingTargets:
    event = torch.zeros(3, 5, dtype=torch.bool)
    for clip, bits in enumerate(EVENTS):
        event[clip, : len(bits)] = torch.tensor(bits, dtype=torch.bool)
    return MatchingTargets(event, torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]]))


class Embedded(Restatement):
    def both(self, visual, audio):
        """The restated embeddings of one clip, by modality; the map by its mean."""
        return {"visual": self.local("visual", visual.mean(axis=1)), "audio": self.local("audio", audio)}


class AvdlnReference(Embedded):
    def local(self, kind, x):
        hidden = self.linear(f"{kind}.0", x)
        return self.linear(f"{kind}.2", np.where(hidden > 0, hidden, 0.3 * hidden))


class DamReference(Embedded):
    def local(self, kind, x):
        return self.linear(f"{kind}.local.2", relu(self.linear(f"{kind}.local.0", x)))

    def logits(self, given, window, searched):
        """Of one window (l, D) of the modality ``given``, for every searched segment (T, D)."""
        vector = self.norm(f"{given}.event.norm", window + self.multi_head(f"{given}.event.attention", window, window)).mean(axis=0)
        return searched @ vector / math.sqrt(8)


class CclnReference(Embedded):
    def local(self, kind, x):
        return self.linear(f"{kind}.embed.2", relu(self.linear(f"{kind}.embed.0", x)))

    def searched(self, kind, x):
        return self.intra(f"{kind}.relate", x)

    def logits(self, given, window, searched):
        name = "audio_to_visual" if given == "audio" else "visual_to_audio"
        asking, found = window.mean(axis=0), []
        for segment in searched:
            cosine = asking @ segment / np.linalg.norm(asking) / np.linalg.norm(segment)
            if f"{name}.gate.0.weight" in self.state:
                fused = relu(self.linear(f"{name}.gate.0", asking) + self.linear(f"{name}.gate.1", segment))
                cosine *= sigmoid(self.linear(f"{name}.gate.2", fused))[0]
            found.append(self.state[f"{name}.scale"] * cosine + self.state[f"{name}.bias"])
        return np.array(found)


OTHER = {"audio": "visual", "visual": "audio"}


def assert_windows(scores, expected):
    """``expected(clip, given, question, answer, length)`` for every window that fits."""
    for given, got in (("audio", scores.audio_to_visual), ("visual", scores.visual_to_audio)):
        for clip, segments in enumerate(LENGTHS):
            for length in range(1, segments + 1):
                for question in range(segments - length + 1):
                    for answer in range(segments - length + 1):
                        wanted = expected(clip, given, question, answer, length)
                        assert got[clip, length - 1, question, answer].item() == pytest.approx(wanted, abs=1e-9)


def test_avdln_equals_the_numpy_restatement():
    batch = example()[0]
    method = scatter(build("avdln", {}))
    local = [AvdlnReference(method).both(*features) for features in clips(batch)]
    distance = [np.linalg.norm(x["audio"][:, None] - x["visual"], axis=-1) for x in local]  # sound, picture
    assert_windows(
        method.predict(batch),
        lambda clip, given, q, a, n: -sum(
            distance[clip][(q + k, a + k) if given == "audio" else (a + k, q + k)] for k in range(n)
        ),
    )  # fmt: skip
    terms = [
        d**2 if bit else max(0, 2 - d) ** 2
        for table, bits in zip(distance, EVENTS, strict=True)
        for d, bit in zip(table.diagonal(), bits, strict=True)
    ]
    assert {0, 1} == {bit for bits in EVENTS for bit in bits}
    losses = {key: value.item() for key, value in method.losses(batch, truth(), PROGRESS).items()}
    assert losses == pytest.approx(dict.fromkeys(("distance", "total"), np.mean(terms)), abs=1e-10)


@pytest.mark.parametrize("switches", [None, {}, OFF], ids=["dam", "ccln", "ccln off"])
def test_dam_and_ccln_equal_the_numpy_restatement(switches):
    batch = example()[0]
    if switches is None:
        method = scatter(build("dam", {}))
        network = DamReference(method)
    else:
        method = scatter(build("ccln_matching", switches))
        network = CclnReference(method)
    local = [network.both(*features) for features in clips(batch)]
    searched = local if switches is None else [{kind: network.searched(kind, x) for kind, x in of_clip.items()} for of_clip in local]

    def logits(clip, given, question, length):
        return network.logits(given, local[clip][given][question : question + length], searched[clip][OTHER[given]])

    assert_windows(
        method.predict(batch), lambda clip, given, q, a, n: logits(clip, given, q, n)[a : a + n].sum()
    )  # fmt: skip
    terms = {}
    for name, given in (("a2v", "audio"), ("v2a", "visual")):
        said = [(logits(0, given, 1, 3), EVENTS[0]), (logits(1, given, 0, 2), EVENTS[1])]  # the clip without an event does not contribute
        terms[name] = np.mean([math.log(1 + math.exp(-x if bit else x)) for row, bits in said for x, bit in zip(row, bits, strict=True)])
    total = (terms["a2v"] + terms["v2a"]) / 2
    if switches is not None:
        total *= 2
    if switches == {}:
        terms["foreground"] = np.mean([[foreground(searched[clip][kind], EVENTS[clip]) for clip in (0, 1)] for kind in OTHER])
        terms["contrast"] = contrast(
            [{k: x[k][np.array(e, bool)].mean(axis=0) for k in OTHER} for x, e in zip(local[:2], EVENTS, strict=False)]
        )
        total += 0.5 * terms["foreground"] + 0.5 * terms["contrast"]
    losses = {key: value.item() for key, value in method.losses(batch, truth(), PROGRESS).items()}
    assert losses == pytest.approx({**terms, "total": total}, abs=1e-9)


def foreground(rows, bits):
    pairs = [(i, j) for i, one in enumerate(bits) for j, other in enumerate(bits) if one and not other]
    cosines = np.array([rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]) for i, j in pairs])
    weights = softmax(cosines / 0.2 - np.array([abs(i - j) - 1 for i, j in pairs]) / 2.0)
    return weights @ np.maximum(0, cosines)


def contrast(events):
    """Two clips of two classes: each its own only positive."""
    unit = {kind: [event[kind] / np.linalg.norm(event[kind]) for event in events] for kind in OTHER}
    losses = [-math.log(softmax(np.array([unit[k][i] @ x for x in unit[OTHER[k]]]) / 0.1)[i]) for k in OTHER for i in (0, 1)]
    return np.mean(losses)


def test_avdln_has_the_released_size():
    """128 (512 + 1) + 64 (128 + 1) and 128 (128 + 1) + 64 (128 + 1)."""
    method = create("avdln", visual_shape=(512,), audio_shape=(128,), num_classes=28)
    assert sum(weight.numel() for weight in method.parameters()) == 65_664 + 16_512 + 2 * 8_256
