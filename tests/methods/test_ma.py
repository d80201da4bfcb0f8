"""MA: its size, its losses from HAN's restated forward pass, and the labels removed by track exchange, by loops."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from restatement import binary, scatter, softmax
from safetensors.torch import load_file, save_file
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanReference

from pipeline.batch import Batch
from pipeline.datasets.llp import CLASSES as LLP_CLASSES
from pipeline.errors import InputProblems, PipelineError
from pipeline.methods import METHODS, Progress, create
from pipeline.methods.ma.track_exchange import unrelated
from pipeline.tasks.labels import VideoTargets

SETTINGS = {"width": 6, "feedforward": 8, "dropout": 0.0}


def build(**config):
    torch.manual_seed(1)
    return scatter(
        create("ma", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, **SETTINGS, **config)
    )


class Reference(HanReference):
    """One clip, the front end and what is behind it apart."""

    def said(self, sound, picture):
        """P^a, P^v, P."""
        return self.mmil(self.layer(sound, picture), self.layer(picture, sound))[2:]


def tracks(method, batch, lengths):
    reference = Reference(method)
    streams = (batch.visual, batch.audio, batch.others["motion"])
    return reference, [reference.tracks(*(stream[n, :length].numpy() for stream in streams)) for n, length in enumerate(lengths)]


def contrast(audio, picture):
    """Of each segment: cross-entropy of its similarities with smoothed labels."""
    a, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, picture))
    terms, length = [], len(a)
    for t in range(length):
        log_q = np.log(softmax(a[t] @ v.T / 0.2))
        weights = [0.9 if n == t else 0.1 / max(length - 1, 1) for n in range(length)]
        terms.append(-sum(weight * value for weight, value in zip(weights, log_q, strict=True)))
    return terms


@pytest.mark.parametrize("variant", ["fixed", "released"])
@pytest.mark.parametrize("removed", [True, False])
def test_losses_equal_the_restatement(variant, removed):
    """Labels are removed by annotation row. One removed from the audio stays in the clip's target, except in the released variant."""
    batch, targets = example()
    method = build(variant=variant)
    absent_audio, absent_visual = np.zeros((9, CLASSES), bool), np.zeros((9, CLASSES), bool)
    rows = [7, 2, 5]
    if removed:
        absent_audio[7, 1] = absent_visual[7, 0] = absent_visual[2, 2] = True  # all of them labels of these clips
        method.removed_audio, method.removed_visual = torch.tensor(absent_audio), torch.tensor(absent_visual)
    expected = {name: [] for name in ("audio", "visual", "clip", "contrast")}
    reference, of_clips = tracks(method, batch, LENGTHS)
    for clip, (sound, picture) in enumerate(of_clips):
        audio, visual, whole = reference.said(sound, picture)
        expected["contrast"] += contrast(reference.layer(sound, picture), picture)
        for c in range(CLASSES):
            y = targets.labels[clip, c].item()
            of_audio = 0.0 if absent_audio[rows[clip], c] else y
            expected["audio"].append(binary(audio[c], of_audio))
            expected["visual"].append(binary(visual[c], 0.0 if absent_visual[rows[clip], c] else 0.9 * y + 0.05))
            expected["clip"].append(binary(min(whole[c], 1 - 1e-7), of_audio if variant == "released" else y))
    losses = method.losses(batch, VideoTargets(targets.labels, torch.tensor(rows)), Progress(0, 9))
    for name, values in expected.items():
        assert losses[name].item() == pytest.approx(np.mean(values), abs=1e-10), name
    assert losses["total"].item() == pytest.approx(sum(np.mean(values) for values in expected.values()), abs=1e-10)
    if removed:
        with pytest.raises(TypeError, match="annotation rows"):
            method.losses(batch, targets, Progress(0, 9))


MANY = (5, 3, 1, 4, 5, 5, 2, 5) * 3
ROWS = [*range(2, 16), *range(25, 15, -1)]  # annotation rows 0 and 1 are not there


def many_clips():
    """24 clips, the last one with all classes."""
    generator = torch.Generator().manual_seed(3)
    shape = (len(MANY), 5)
    visual, audio, motion = (torch.randn(*shape, *rest, generator=generator, dtype=torch.float64) for rest in ((2, 4), (7,), (5,)))
    labels = (torch.rand(len(MANY), CLASSES, generator=generator) < 0.4).double()
    labels[labels.sum(dim=1) == 0, 0] = 1
    labels[-1] = 1
    labels = torch.cat([labels, 1 - labels.amax(1, keepdim=True)], dim=1)
    batch = Batch(visual, audio, torch.arange(5) < torch.tensor(MANY)[:, None], {"motion": motion})
    return batch, VideoTargets(labels, torch.tensor(ROWS))


def restated_removal(method, batch, labels, partners, variant):
    """(N, C) bool: absent from the audio, from the visual stream."""
    reference, of_clips = tracks(method, batch, MANY)
    plain = [reference.said(*of_clip) for of_clip in of_clips]
    errors = []
    for modality in range(2):
        shares = [np.mean([(p[modality][c] > 0.5) != labels[n][c] for n, p in enumerate(plain)]) for c in range(CLASSES)]
        errors.append([share / max(shares) for share in shares])
    a_class, v_class = errors
    absent_audio, absent_visual = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for n, partner in enumerate(partners):
        if partner < 0:
            continue
        length = min(MANY[n], MANY[partner])
        own_sound, own_picture = (track[:length] for track in of_clips[n])
        foreign_sound, foreign_picture = (track[:length] for track in of_clips[partner])
        a_a, a_v, _ = reference.said(own_sound, foreign_picture)
        v_a, v_v, _ = reference.said(foreign_sound, own_picture)
        for c in range(CLASSES):
            own_of_audio, own_of_visual = (v_class, a_class) if variant == "released" else (a_class, v_class)
            absent_audio[n, c] = labels[n][c] and a_a[c] < 0.5 * own_of_audio[c] and a_v[c] < 0.5 * a_class[c]
            absent_visual[n, c] = labels[n][c] and v_v[c] < 0.5 * own_of_visual[c] and v_a[c] < 0.5 * v_class[c]
    return absent_audio, absent_visual


def test_labels_are_removed_by_exchanging_tracks():
    """Six random networks in both variants remove the same labels as the loops, by annotation row; the variants differ."""
    batch, targets = many_clips()
    labels = targets.labels[:, :CLASSES].numpy() > 0.5
    removed = {"fixed": [], "released": []}
    for seed in range(6):
        for variant, tables in removed.items():
            method = build(variant=variant)
            torch.manual_seed(seed)
            first = METHODS.get("ma")(method.config.first, (2, 4), (7,), CLASSES, {"motion": (5,)}).eval()
            scatter(first, 0.6)
            batches = [(batch[part], targets[part]) for part in (slice(0, 16), slice(16, 24))]
            torch.manual_seed(seed)
            partners = unrelated(torch.tensor(labels), batch.mask).tolist()
            assert partners[-1] == -1
            torch.manual_seed(seed)
            with torch.no_grad():
                method.prepare(first, lambda batches=batches: batches)
            assert method.removed_audio.shape == method.removed_visual.shape == (26, CLASSES)
            for table, expected in zip(
                (method.removed_audio, method.removed_visual), restated_removal(first, batch, labels, partners, variant), strict=True
            ):
                np.testing.assert_array_equal(table[ROWS].numpy(), expected)
                assert not table[:2].any()
            tables.append(torch.stack([method.removed_audio, method.removed_visual]))
    total = torch.stack(removed["fixed"]).sum().item()
    assert 0 < total < 2 * 6 * labels.sum()
    assert not torch.equal(torch.stack(removed["fixed"]), torch.stack(removed["released"]))


def test_the_first_network_learns_from_all_labels():
    config = build().config
    assert config.first.model_dump() == {**config.model_dump(), "refine": False}
    assert config.first.first is None
    assert build(refine=False).config.first is None
    method = build(refine=False)
    method.prepare(None, lambda: [])
    assert len(method.removed_audio) == 0


def test_removed_labels_are_stored_with_the_weights(tmp_path):
    method = build()
    method.removed_audio, method.removed_visual = torch.rand(2, 4, CLASSES) < 0.5
    save_file(method.state_dict(), tmp_path / "weights.safetensors")
    restored = build()
    restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert method.removed_audio.any()
    assert torch.equal(restored.removed_audio, method.removed_audio)
    assert torch.equal(restored.removed_visual, method.removed_visual)


@pytest.mark.parametrize(("name", "audio", "visual"), [("cvcms", 1583, 3509), ("dhhn", 1528, 3591)])
def test_published_labels_are_read_for_the_rows_they_belong_to(shared, name, audio, visual):
    directory = shared / "annotations" / "llp"
    with open(directory / "AVVP_train.csv", encoding="utf-8", newline="") as stream:
        listed = [line["event_labels"].split(",") for line in csv.DictReader(stream, delimiter="\t")]
    labels = torch.tensor([[float(label in of_clip) for label in (*LLP_CLASSES, "none")] for of_clip in listed])
    config = {"removed_labels": str(directory / f"removed_labels_{name}.npz"), "motion": None, "width": 8, "feedforward": 8}
    method = create("ma", visual_shape=(16,), audio_shape=(8,), num_classes=25, **config)
    assert method.config.first is None
    rows = torch.arange(len(labels))
    method.prepare(None, lambda: [(None, VideoTargets(labels[part], part)) for part in rows.split(4000)])
    assert (method.removed_audio.sum().item(), method.removed_visual.sum().item()) == (audio, visual)
    shifted = VideoTargets(labels.roll(1, dims=0), rows)
    with pytest.raises(InputProblems, match=r"2 problems(.|\n)*remove_audio .* \d+ clips(.|\n)*remove_visual"):
        method.prepare(None, lambda: [(None, shifted)])


@pytest.mark.parametrize(
    "content",
    [
        b"none",
        b"PK\x03\x04 cut off",
        {"remove_audio": np.zeros((26, 3), bool)},
        {"remove_audio": np.zeros((26, 2), bool), "remove_visual": np.zeros((26, 3), bool)},
        {"remove_audio": np.zeros((25, 3), bool), "remove_visual": np.zeros((26, 3), bool)},
        {"remove_audio": np.zeros((26, 3)), "remove_visual": np.zeros((26, 3), bool)},
        {"remove_audio": np.array([{}]), "remove_visual": np.zeros((26, 3), bool)},
        {"remove_audio": np.array(["a"]), "remove_visual": np.zeros((26, 3), bool)},
    ],
)
def test_a_file_without_removed_labels_is_refused(tmp_path, content):
    path = tmp_path / "removed.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    batch, targets = many_clips()
    with pytest.raises(PipelineError, match=r"removed_labels: .*removed\.npz"):
        build(removed_labels=path).prepare(None, lambda: [(batch, targets)])


def test_parameters_as_hans():
    method = create("ma", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) == 4_569_675
