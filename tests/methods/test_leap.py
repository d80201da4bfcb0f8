"""LEAP: its size, forward pass and losses restated in NumPy, and the text tables that it takes and refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pyramid_restatement import Pyramid
from restatement import binary, scatter, sigmoid
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as Han
from test_mm_pyramid import PUBLISHED, SHAPES

from pipeline.datasets.llp import CLASSES as OF_LLP
from pipeline.errors import InputProblems
from pipeline.methods import METHODS, Progress, create
from pipeline.methods.leap.similarity import shared_events
from tests.wording import each_says, one_says

SMALL = {
    "width": 6, "encoder_feedforward": 8, "decoder_heads": 2, "decoder_feedforward": 8, "text_width": 4, "encoder_dropout": 0.0,
    "dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip
ENCODERS = {
    "mm_pyramid": {"encoder": "mm_pyramid", "encoder_heads": 2, "encoder_layers": 3},
    "han": {"encoder": "han"},
    "valor": {"encoder": "valor", "encoder_heads": 2, "encoder_layers": 1, "encoder_feedforward": 8},
}


def build(encoder="mm_pyramid", **config):
    torch.manual_seed(1)
    return scatter(create("leap", **SHAPES, **{**SMALL, **ENCODERS[encoder], **config}), limit=0.5)


def labelled():
    """Clips with labels of their segments; the second clip has no visual one, and the third none at all."""
    batch, targets = example()
    audio, visual = torch.zeros(2, 3, 5, CLASSES, dtype=torch.float64)
    audio[0, :3, 0] = audio[0, 2:, 1] = visual[0, 1:4, 0] = audio[1, 1, 2] = 1
    visual[0, 4, 1] = 0.5  # soft
    return replace(batch, others={**batch.others, "audio_labels": audio, "visual_labels": visual}), targets


class Reference(Pyramid, Han):
    """One clip -> streams (T, D), p^a, p^v (T, C), P^a, P^v (C,)."""

    def __call__(self, encoder, visual, audio, motion):
        audio = self.linear("front_end.audio", audio)
        visual = self.linear("front_end.visual", visual).mean(axis=1)
        visual = self.linear("front_end.fusion", np.concatenate([visual, self.linear("front_end.motion", motion)], axis=1))
        streams = getattr(self, encoder)(audio, visual)
        tokens = self.linear("tokens", self.state["texts"])
        decoded = [self.decoder(modality, tokens, x) for modality, x in zip(("audio", "visual"), streams, strict=True)]
        return streams, [p for p, _ in decoded], [clip for _, clip in decoded]

    def mm_pyramid(self, audio, visual):
        return self.encode(audio, visual, name="encoder.")

    def han(self, audio, visual):
        return self.hybrid("encoder", 1, audio, visual), self.hybrid("encoder", 1, visual, audio)

    def valor(self, audio, visual):
        updated = self.hybrid("encoder.layers.0", 2, audio, visual)
        return updated, self.hybrid("encoder.layers.0", 2, visual, updated)

    def hybrid(self, name, heads, q, o):
        own, cross = (self.multi_head(f"{name}.{part}", q, keys, heads=heads) for part, keys in (("own", q), ("cross", o)))
        h = self.norm(f"{name}.attention_norm", q + own + cross)
        return self.norm(f"{name}.feedforward_norm", h + self.fed(name, h))

    def fed(self, name, h):
        return self.linear(f"{name}.feedforward.3", np.maximum(self.linear(f"{name}.feedforward.0", h), 0))

    def decoder(self, modality, tokens, x):
        """The scores head by head, from the last attention's projections of the un-normed h; then their mean."""
        for block in range(2):
            name = f"decoders.{modality}.blocks.{block}"
            h = tokens + self.multi_head(f"{name}.attention", self.norm(f"{name}.attention_norm", tokens), x)
            tokens = h + self.fed(name, self.norm(f"{name}.feedforward_norm", h))
        weights, biases = (np.split(self.state[f"{name}.attention.in_proj_{kind}"], 3) for kind in ("weight", "bias"))
        q, k = h @ weights[0].T + biases[0], x @ weights[1].T + biases[1]
        heads = [q[:, part] @ k[:, part].T / math.sqrt(3) for part in (slice(0, 3), slice(3, 6))]
        return sigmoid(np.mean(heads, axis=0)).T, sigmoid(self.linear(f"heads.{modality}", tokens)[:, 0])


def target(audio, visual, form):
    """Y (T, T) of one clip, second by second."""
    y, most = np.zeros((len(audio), len(visual))), max(audio.sum(axis=1).max(), visual.sum(axis=1).max())
    for t, a in enumerate(audio):
        for s, v in enumerate(visual):
            if form == "released":
                r = (a * v).sum() / (most or 1e-8)
                y[t, s] = (1 / (1 + math.exp(-math.log(r))) if r else 0) + 0.01
            else:
                either = (a + v - a * v).sum()
                y[t, s] = (a * v).sum() / either if either else 0
    return y


@pytest.mark.parametrize(("encoder", "variant"), [("mm_pyramid", "released"), ("han", "released"), ("valor", "released"), ("han", "paper")])
def test_forward_and_losses_equal_the_numpy_restatement(encoder, variant):
    batch, targets = labelled()
    method = build(encoder, variant=variant)
    reference, scores = Reference(method), method.predict(batch)
    terms = {name: [] for name in ("audio", "visual", "audio_segments", "visual_segments", "similarity")}
    for clip, length in enumerate(LENGTHS):
        inputs = (stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"]))
        streams, segments, clips = reference(encoder, *inputs)
        labels = [batch.others[f"{modality}_labels"][clip, :length].numpy() for modality in ("audio", "visual")]
        for modality, p, whole, told in zip(("audio", "visual"), segments, clips, labels, strict=True):
            np.testing.assert_allclose(getattr(scores, modality)[clip, :length].detach(), p, atol=1e-10)
            terms[modality] += map(binary, whole, told.max(axis=0))
            terms[f"{modality}_segments"] += map(binary, p.ravel(), told.ravel())
        np.testing.assert_allclose(scores.clip_audio[clip].detach(), np.maximum(*clips), atol=1e-10)
        assert torch.equal(scores.clip_audio, scores.clip_visual)  # a class in either modality opens both
        lengths = [np.linalg.norm(stream, axis=1) for stream in streams]
        alike = np.maximum(streams[0] @ streams[1].T / np.outer(*lengths), 0)
        terms["similarity"] += ((alike - target(*labels, variant)) ** 2).ravel().tolist()
    losses = method.losses(batch, targets, Progress(0, 1))
    assert losses.keys() == {*terms, "total"}
    for name, values in terms.items():
        assert losses[name].item() == pytest.approx(np.mean(values), abs=1e-10), name
    assert losses["total"].item() == pytest.approx(sum(np.mean(values) for values in terms.values()), abs=1e-10)


def test_every_parameter_learns_from_labels_of_segments():
    batch, targets = labelled()
    method = build().train()
    method.losses(batch, targets, Progress(0, 1))["total"].backward()
    assert [name for name, weight in method.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_targets_of_the_similarity_stay_within_their_range():
    """Released: from .01 without a shared event to .51 with all of them; paper: from 0 to 1."""
    labels = torch.tensor([[[1.0, 1, 0], [0, 0, 1], [0, 0, 0]]])
    released, paper = (shared_events(labels, labels, form)[0] for form in ("released", "paper"))
    torch.testing.assert_close(released, torch.tensor([[0.51, 0.01, 0.01], [0.01, 1 / 3 + 0.01, 0.01], [0.01, 0.01, 0.01]]))
    assert paper.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_without_labels_of_segments_a_class_is_learned_by_its_largest_segment():
    batch, targets = example()
    method = build("han", pseudo_labels=None)
    said, losses = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    assert losses.keys() == {"audio", "visual", "audio_largest", "visual_largest", "total"}
    for modality in ("audio", "visual"):
        largest = [getattr(said, modality)[clip, :length].amax(dim=0) for clip, length in enumerate(LENGTHS)]
        terms = [binary(p.item(), y.item()) for ps, ys in zip(largest, targets.labels, strict=True) for p, y in zip(ps, ys, strict=False)]
        assert losses[f"{modality}_largest"].item() == pytest.approx(np.mean(terms), abs=1e-10)


def test_parameters_as_the_released_network_uses():
    with torch.device("meta"):
        method = create("leap", **PUBLISHED)
    assert sum(weight.numel() for weight in method.decoders.parameters()) == 6_311_936
    assert sum(weight.numel() for weight in method.parameters()) == 47_256_068


def test_the_released_recipe_and_the_encoders_own_settings_are_the_defaults():
    config = METHODS.get("leap").Config()
    recipe = config.recipe
    assert (recipe.learning_rate, recipe.milestones, recipe.decay, recipe.batch_size, recipe.epochs) == (1e-4, (10, 20), 0.1, 32, 30)
    assert (config.encoder, config.encoder_layers, config.encoder_heads, config.encoder_dropout) == ("mm_pyramid", 4, 8, 0.2)
    assert (config.dropout, config.attention_dropout, config.segment_threshold, config.clip_threshold) == (0.2, 0.1, 0.5, 0.5)
    for encoder, heads, feedforward in (("han", 1, 512), ("valor", 8, 1024)):
        config = METHODS.get("leap").Config(encoder=encoder)
        assert (config.encoder_layers, config.encoder_heads, config.encoder_feedforward, config.encoder_dropout) == (
            1,
            heads,
            feedforward,
            0.1,
        )
    for settings, words in (({"encoder": "han", "encoder_layers": 2}, "han has one layer"), ({"width": 12}, "encoder_heads")):
        with pytest.raises(ValidationError, match=words):
            METHODS.get("leap").Config(**settings)


def test_coleaf_trains_it_as_its_anchor():
    batch, targets = labelled()
    streams = {"audio": "audio_labels", "visual": "visual_labels"}
    torch.manual_seed(0)
    settings = {**SMALL, **ENCODERS["mm_pyramid"]}
    method = create("coleaf", **SHAPES, anchor="leap", anchor_settings=settings, feedforward=8, pseudo_labels=streams).double()
    names = set()
    for terms in method.steps(batch, targets, Progress(9, 10)):
        terms["total"].backward()
        names |= terms.keys()
    assert "similarity" in names
    assert all(weight.grad is not None for weight in method.anchor.parameters())


# --- text tables --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Write a table of the classes a, b, c."""

    def write(**arrays):
        path = tmp_path / "texts.npz"
        vectors = np.arange(CLASSES * 4, dtype=np.float32).reshape(CLASSES, 4)
        np.savez(path, **({"names": np.array(["a", "b", "c"]), "vectors": vectors} | arrays))
        return path

    return write


def test_vectors_of_a_table_become_the_tokens_and_stay_with_the_weights(table):
    method = build(texts=table())
    drawn = method.texts.clone()
    method.prepare(None, lambda: iter(()))
    assert method.texts.tolist() == np.arange(12).reshape(3, 4).tolist() != drawn.tolist()
    restored = build(texts="gone.npz")
    restored.load_kept(method.kept_weights())
    assert torch.equal(restored.texts, method.texts)
    torch.manual_seed(5)
    assert torch.equal(create("leap", **SHAPES, **SMALL, **ENCODERS["han"]).texts.double(), drawn)  # without a table: the same in every run


@pytest.mark.parametrize(
    ("arrays", "classes", "words"),
    [
        ({}, ["a", "B_", "(c)"], None),
        ({}, ["a", "c", "b"], ("another order", "2 is 'b'", "'c'")),
        ({}, ["a", "b", "d"], ("1 of 3 classes", "'d'")),
        ({}, ["a", "b"], ("3 names", "2 classes")),
        ({"vectors": np.zeros((3, 5))}, ["a", "b", "c"], ("width 5", "text_width: 5")),
        ({"vectors": np.zeros((2, 4))}, ["a", "b", "c"], ("3 names", "(2, 4)")),
        ({"vectors": np.full((3, 4), np.nan)}, ["a", "b", "c"], ("not finite",)),
    ],
)
def test_a_table_that_does_not_suit_the_classes_is_refused_in_a_sentence(table, arrays, classes, words):
    config = METHODS.get("leap").Config(**SMALL, **ENCODERS["han"], texts=table(**arrays))
    problems = config.class_problems(classes)
    assert problems == [] if words is None else each_says(problems, [("texts.npz", *words)])


def flipped(content: bytes, place: int) -> bytes:
    """An .npz with four other bytes at a place of its vectors."""
    start = content.find(b"vectors.npy") + place
    return content[:start] + bytes(255 - value for value in content[start : start + 4]) + content[start + 4 :]


def test_what_is_no_table_is_refused(tmp_path, table):
    whole = table().read_bytes()
    np.savez_compressed(tmp_path / "packed.npz", names=np.array(["a"]), vectors=np.random.default_rng(0).random((1, 400)))
    packed = (tmp_path / "packed.npz").read_bytes()
    wrong = {"words": b"no zip", "cut": whole[: len(whole) // 2], "turned": flipped(whole, 150), "packed": flipped(packed, 60)}
    for name, content in wrong.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
    for path in (*(tmp_path / f"{name}.npz" for name in wrong), tmp_path / "none.npz"):
        config = {**SMALL, **ENCODERS["han"], "texts": path}
        assert one_says(METHODS.get("leap").Config(**config).class_problems(["a"]), "texts", path.name, ".npz", "names")
        with pytest.raises(InputProblems, match="texts"):
            create("leap", **SHAPES, **config).prepare(None, lambda: iter(()))


def test_the_published_table_of_glove_vectors_is_in_llps_order(shared):
    config = METHODS.get("leap").Config(texts=shared / "data" / "llp_label_glove_300.npz")
    assert config.class_problems(list(OF_LLP)) == []
    assert one_says(config.class_problems([*OF_LLP[1:], OF_LLP[0]]), "another order")
