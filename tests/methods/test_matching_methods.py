"""Methods of cross-modality localization: use of the given modality, and each restated in NumPy, float64, one window at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from restatement import AUDIO_SHAPE, CLASSES, LENGTHS, VISUAL_SHAPE, Restatement, clips, example, relu, scatter, sigmoid, softmax

from pipeline.batch import Batch
from pipeline.methods import Progress, create
from pipeline.tasks.cml import MatchingTargets

NARROW = {
    "avdln": {"hidden": 12, "width": 8},
    "dam": {"width": 8, "heads": 2},
    "dmin_matching": {"width": 8, "heads": 2, "feedforward": 12},
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


@every_case
def test_the_given_modality_is_used_only_within_its_window(name, switches):
    """Audio outside the given window changes no answer; visual features there do, because the searched modality is fully known."""
    method = scatter(build(name, switches)).eval()
    batch, _ = batch_of()
    batch = Batch(batch.visual.double(), batch.audio.double(), batch.mask)
    other = batch.audio.clone()
    other[:, [0, 1, 5]] += 1
    with torch.no_grad():
        first, second = method.predict(batch), method.predict(Batch(batch.visual, other, batch.mask))
    torch.testing.assert_close(first.audio_to_visual[:, 2, 2, :4], second.audio_to_visual[:, 2, 2, :4])  # sound of [2, 5)
    assert not torch.allclose(first.audio_to_visual[:, 2, 1, :4], second.audio_to_visual[:, 2, 1, :4])
    assert not torch.allclose(first.visual_to_audio[:, 2, 2, :4], second.visual_to_audio[:, 2, 2, :4])


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
