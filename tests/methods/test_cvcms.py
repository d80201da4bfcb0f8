"""CVCMS: its size, its forward pass and losses restated in NumPy, float64, one clip or pair at a time, and its refined labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import binary, relu, scatter, sigmoid, softmax
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanReference

from pipeline.methods import METHODS, Progress, create
from pipeline.methods.cvcms import method as cvcms
from pipeline.methods.cvcms.video_contrast import other_clips
from pipeline.tasks.labels import VideoTargets

SETTINGS = {"width": 6, "feedforward": 8, "token_width": 4, "token_feedforward": 5, "dropout": 0.0, "token_dropout": 0.0}
SHAPES = {"visual_shape": (2, 4), "audio_shape": (7,), "num_classes": CLASSES, "other_shapes": {"motion": (5,)}}
ROWS = [7, 2, 5]
PARTNERS = [1, 2, 0]  # of every clip the one whose visual stream its audio gets


def build(**config):
    torch.manual_seed(1)
    return scatter(create("cvcms", **SHAPES, **SETTINGS, **config))


class Reference(HanReference):
    """From the spec's formulas, one clip."""

    def attended(self, sound, picture):
        return self.layer(sound, picture), self.layer(picture, sound)

    def parsed(self, audio, visual):
        """p^a, p^v (T, C), P^a, P^v, P (C,)."""
        p = [np.zeros((len(audio), CLASSES)) for _ in range(2)]
        for t in range(len(audio)):
            tokens = [
                relu(self.linear(f"classes.{kind}_tokens.tokens", x[t])).reshape(CLASSES, 4)
                for kind, x in (("audio", audio), ("visual", visual))
            ]
            for m, kind in enumerate(("audio", "visual")):
                attended = self.layer(tokens[m], tokens[1 - m], "classes.attention")
                p[m][t] = sigmoid(self.linear(f"classes.{kind}_score", attended))[:, 0]
        return self.pooled(p, (audio, visual))

    def summary(self, stream, labels):
        """g: the stream's mean, weighted by the temporal attention's logits of the labels."""
        return softmax(self.linear("over_time", stream) @ labels) @ stream


def cross_entropy(summaries, labels):
    """Over all clips and mixtures i, j: (audio, visual) each."""
    terms = []
    for sound, of_sound in zip(summaries[0], labels[0], strict=True):
        cosines = np.array([sound @ x / np.linalg.norm(sound) / np.linalg.norm(x) for x in summaries[1]])
        positive = np.array([float(of_sound @ of_picture > 0) for of_picture in labels[1]])
        terms.append(-(positive / (positive.sum() + 1e-10)) @ np.log(softmax(cosines / 0.5)))
    return np.mean(terms)


@pytest.mark.parametrize(("epoch", "removed"), [(1, True), (2, True), (2, False)])
def test_forward_and_losses_equal_the_numpy_restatement(epoch, removed, monkeypatch):
    """A label removed from one modality stays in the clip's target, one removed from both does not; the contrast from epoch 2 on."""
    batch, targets = example()
    method = build(temperature=0.5).eval()
    monkeypatch.setattr(cvcms, "other_clips", lambda *_: torch.tensor(PARTNERS))
    y, absent = targets.labels[:, :CLASSES].numpy(), np.zeros((2, 9, CLASSES), bool)
    if removed:
        absent[:, 7, 1] = absent[1, 7, 0] = absent[0, 2, 2] = True
        method.removed_audio, method.removed_visual = torch.tensor(absent)
    a, v = (np.where(gone[ROWS], 0.0, y) for gone in absent)
    reference, scores = Reference(method), method.predict(batch)
    streams = (batch.visual, batch.audio, batch.others["motion"])
    tracks = [reference.tracks(*(stream[n, :length].numpy() for stream in streams)) for n, length in enumerate(LENGTHS)]
    attended = [reference.attended(*of_clip) for of_clip in tracks]
    terms = {"audio": [], "visual": [], "clip": []}
    for n, length in enumerate(LENGTHS):
        p_audio, p_visual, audio, visual, whole = reference.parsed(*attended[n])
        np.testing.assert_allclose(scores.audio[n, :length].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.visual[n, :length].detach(), p_visual, atol=1e-10)
        np.testing.assert_allclose(scores.clip_audio[n].detach(), whole, atol=1e-10)
        for c in range(CLASSES):
            terms["audio"].append(binary(audio[c], a[n, c]))
            terms["visual"].append(binary(visual[c], v[n, c] if epoch == 2 else 0.9 * v[n, c] + 0.05))
            terms["clip"].append(binary(min(whole[c], 1 - 1e-7), max(a[n, c], v[n, c])))
    expected = {name: np.mean(values) for name, values in terms.items()}
    total = sum(expected.values())
    if epoch == 2:
        pairs = [(n, m, min(LENGTHS[n], LENGTHS[m])) for n, m in enumerate(PARTNERS)]
        attended += [reference.attended(tracks[n][0][:length], tracks[m][1][:length]) for n, m, length in pairs]
        labels = ([*a, *a], [*v, *v[PARTNERS]])
        summaries = [[reference.summary(x[m], of_clip) for x, of_clip in zip(attended, labels[m], strict=True)] for m in range(2)]
        expected["contrast"] = cross_entropy(summaries, labels)
        total += 0.85 * expected["contrast"]
    losses = method.losses(batch, VideoTargets(targets.labels, torch.tensor(ROWS)), Progress(epoch, 9))
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx({**expected, "total": total}, abs=1e-9)


def test_parameters_as_the_released_network_uses():
    method = create("cvcms", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) == 8_005_940


def test_a_partner_is_any_other_clip():
    torch.manual_seed(0)
    drawn = torch.stack([other_clips(4, torch.device("cpu")) for _ in range(600)])
    shares = torch.nn.functional.one_hot(drawn, 4).double().mean(dim=0)
    assert (shares.diagonal() == 0).all()
    assert (shares[~torch.eye(4, dtype=torch.bool)] - 1 / 3).abs().max() < 0.1


def test_the_network_of_ma_finds_the_labels_to_remove():
    """By default; a file of labels, or none to remove, needs no first network."""
    config = build(refiner={"width": 6, "feedforward": 8}).config
    assert config.first_method == "ma"
    assert build(refine=False).config.first is None
    assert METHODS.get("cvcms").Config(removed_labels="labels.npz").first is None
    batch, targets = example()
    targets = VideoTargets(targets.labels, torch.tensor(ROWS))
    first = scatter(create("ma", **SHAPES, **config.first.model_dump())).eval()
    first.absent = lambda _: (targets.labels[:, :CLASSES] > 0, targets.labels[:, :CLASSES] > 1)
    method = build()
    method.prepare(first, lambda: [(batch, targets)])
    assert torch.equal(method.removed_audio[ROWS], targets.labels[:, :CLASSES] > 0)
    assert method.removed_audio.shape == method.removed_visual.shape == (8, CLASSES)
    assert not method.removed_visual.any()
