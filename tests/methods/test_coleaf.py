"""CoLeaF: every term of a batch from the restated networks of HAN and of the References, NumPy, float64, and who learns from what."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from restatement import Restatement, binary, relu, scatter, sigmoid, softmax
from ruamel.yaml import YAML
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanRestated

from pipeline.methods import METHODS, Progress, create
from pipeline.methods.parsing import AnchorMethod

SENSES = ("heard", "seen")


def build(variant="released", anchor="han", limit=0.7, seed=1, **config):
    torch.manual_seed(seed)
    dropouts = {"han": {}, "jomold": {"seen_dropout": 0.0}, "cmpae": {"seen_dropout": 0.0, "absence_dropout": 0.0}}[anchor]
    method = create(
        "coleaf", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, variant=variant, anchor=anchor,
        anchor_settings={"width": 6, "feedforward": 8, "dropout": 0.0, **dropouts}, feedforward=8, dropout=0.0, head_dropout=0.0, **config,
    )  # fmt: skip
    return scatter(method, limit)


class ReferencesRestated(Restatement):
    """One clip -> by modality tokens (T, D), P (C,), probabilities of the class tokens (C,)."""

    def __call__(self, visual, audio, motion):
        heard = self.linear("front_end.audio", audio)
        seen = self.linear("front_end.visual", visual).mean(axis=1)
        seen = self.linear("front_end.fusion", np.concatenate([seen, self.linear("front_end.motion", motion)], axis=1))
        return {"heard": self.branch("heard", heard), "seen": self.branch("seen", seen)}

    def branch(self, name, stream):
        x = np.concatenate([self.state[f"{name}.class_tokens"], stream])
        layer = f"{name}.attention"
        h = self.norm(f"{layer}.attention_norm", x + self.multi_head(f"{layer}.own", x, x, heads=1))
        out = self.norm(
            f"{layer}.feedforward_norm", h + self.linear(f"{layer}.feedforward.3", relu(self.linear(f"{layer}.feedforward.0", h)))
        )
        tokens, p = out[CLASSES:], sigmoid(self.linear(f"{name}.classifier", out[CLASSES:]))
        clip = (softmax(self.linear(f"{name}.over_time", tokens).T).T * p).sum(axis=0)
        weight = self.state.get(f"{name}.token_classifier.weight")
        if weight is None:
            return tokens, clip, sigmoid(out[:CLASSES].mean(axis=1))
        return tokens, clip, sigmoid((out[:CLASSES] * weight).sum(axis=1) + self.state[f"{name}.token_classifier.bias"])


class AnchorRestated(HanRestated):
    """HAN with the tokens in front."""

    def mmil(self, heard, seen):
        return heard, seen, *super().mmil(heard, seen)


def restated(method, batch):
    """Of each clip (tokens, P) of the Anchor and (tokens, P, class tokens) of the References by modality, and the Anchor's P of all."""
    anchor, references = AnchorRestated(method.anchor), ReferencesRestated(method.references)
    for clip, length in enumerate(LENGTHS):
        streams = [stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"])]
        heard, seen, _, _, of_heard, of_seen, whole = anchor(*streams)
        yield {"heard": (heard, of_heard), "seen": (seen, of_seen)}, references(*streams), whole


def asymmetric(p, y):
    absent = min(1 - p + 0.05, 1)
    return -(1 - (p * y + absent * (1 - y))) * (y * math.log(p) + (1 - y) * math.log(absent))


def unit_products(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def share(references, sense, threshold):
    """Eqs. 9-11 of one clip."""
    own, other = (references[name][1] >= threshold for name in (sense, "seen" if sense == "heard" else "heard"))
    alone, both = sum(own & ~other), sum(own & other)
    return alone / (alone + both) if alone + both else 0.0


def targets_of(labels, number):
    y = labels[number].numpy()[:CLASSES]
    return {"heard": y, "seen": 0.9 * y + 0.05}


def expected_anchor(said, labels):
    """The cross-entropies of HAN, means over clips and classes."""
    terms = {"heard": [], "seen": [], "clip": []}
    for number, (anchor, _, whole) in enumerate(said):
        for c in range(CLASSES):
            for sense in SENSES:
                terms[sense].append(binary(anchor[sense][1][c], targets_of(labels, number)[sense][c]))
            terms["clip"].append(binary(min(whole[c], 1 - 1e-7), labels[number, c].item()))
    return {name: np.mean(values) for name, values in terms.items()}


# Thresholds and seeds with which every decision comes out both ways.
THRESHOLDS = {"event_threshold": 0.5, "pseudo_threshold_heard": 0.45, "pseudo_threshold_seen": 0.5}


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_the_released_steps_equal_the_restatement(epoch):
    batch, targets = example()
    method = build(**THRESHOLDS, seed=5, limit=1.0)
    said = list(restated(method, batch))
    steps = list(method.steps(batch, targets, Progress(epoch, 10)))
    assert len(steps) == 3
    late, fired = epoch >= 3, []
    for sense, terms in zip(SENSES, steps, strict=False):
        of_labels = of_tokens = of_pseudo = 0.0
        for number, (anchor, references, _) in enumerate(said):
            _, p, tokens = references[sense]
            for c in range(CLASSES):
                y = targets_of(targets.labels, number)[sense][c]
                g = y * (anchor[sense][1][c] >= THRESHOLDS[f"pseudo_threshold_{sense}"])
                fired.append((y > 0.5, g > 0.5))
                of_labels, of_tokens, of_pseudo = (
                    total + asymmetric(*pair)
                    for total, pair in ((of_labels, (p[c], y)), (of_tokens, (tokens[c], y)), (of_pseudo, (p[c], g)))
                )
        token_weight = {("heard", False): 1.2, ("seen", False): 1.0, ("heard", True): 0.001, ("seen", True): 0.0}[sense, late]
        total = (0.5 if late else 1) * of_labels + token_weight * of_tokens + (0.5 * of_pseudo if late else 0)
        assert terms["total"].item() == pytest.approx(total, abs=1e-9)
    assert {pseudo for positive, pseudo in fired if positive} == {True, False}
    assert steps[2]["total"].item() == pytest.approx(released_anchor_total(said, targets.labels, epoch), abs=1e-9)


def released_anchor_total(said, labels, epoch):
    terms = expected_anchor(said, labels)
    total = 2 * terms["heard"] + terms["seen"] + 2 * terms["clip"]
    if epoch == 0:
        return total
    contrast, pairs = dict.fromkeys(SENSES, 0.0), 0.0
    limits = {"heard": (0.8, 0.1), "seen": (0.6, 0.4)}
    for (number, (anchor, references, _)), sense in itertools.product(enumerate(said), SENSES):
        tokens, teacher, _ = references[sense]
        weight, length = share(references, sense, 0.5), len(tokens)
        s = np.exp(unit_products(tokens, anchor[sense][0]) / 0.2)  # the Reference asks
        for t in range(length):
            q = s[t] / s[t].sum()
            others = sum(q[n] for n in range(length) if n != t)
            contrast[sense] -= weight * math.log(0.9 * q[t] + (0.1 / (length - 1) * others if length > 1 else 0)) / sum(LENGTHS)
        p, y = anchor[sense][1], targets_of(labels, number)[sense]
        m = [((teacher[c] >= limits[sense][0]) + (teacher[c] <= limits[sense][1])) * y[c] for c in range(CLASSES)]
        t = [m[c] * teacher[c] + (1 - m[c]) * p[c] for c in range(CLASSES)]
        pairs += sum((t[i] * t[j] - p[i] * p[j]) ** 2 for i in range(CLASSES) for j in range(CLASSES))
    assert min(contrast.values()) > 0.01
    assert pairs > 1e-3
    return total + 0.009 * contrast["heard"] + contrast["seen"] + 1e-4 * len(LENGTHS) / CLASSES * pairs


WEIGHTS = {
    "token_weight": 0.3, "self_modality_weight": 0.7, "co_occurrence_weight": 0.9, "contrast_weight_heard": 0.2,
    "contrast_weight_seen": 0.6,
}  # fmt: skip


@pytest.mark.parametrize("contrast", ["event_aware", "plain", "pseudo_labels", "none"])
def test_the_papers_objective_equals_the_restatement(contrast):
    batch, targets = example()
    method = build("paper", contrast=contrast, **THRESHOLDS, **WEIGHTS, seed=35)
    said = list(restated(method, batch))
    assert all(0 < sum(share(references, sense, 0.5) for _, references, _ in said[:2]) < 2 for sense in SENSES)
    steps = list(method.steps(batch, targets, Progress(0, 15)))
    assert len(steps) == 1
    total = sum(expected_anchor(said, targets.labels).values())  # HAN's own weights
    for (number, (anchor, references, _)), sense in itertools.product(enumerate(said), SENSES):
        _, p, of_tokens = references[sense]
        learner, y = anchor[sense][1], targets.labels[number].numpy()
        for c in range(CLASSES):
            g = float(learner[c] >= THRESHOLDS[f"pseudo_threshold_{sense}"])
            total += (binary(p[c], y[c]) + 0.3 * binary(of_tokens[c], y[c]) + 0.7 * binary(p[c], g)) / (3 * CLASSES)
        pairs = [(p[i] * p[j] - learner[i] * learner[j]) ** 2 for i in range(CLASSES) for j in range(CLASSES)]
        total += 0.9 * np.mean(pairs) / 3
        total += {"heard": 0.2, "seen": 0.6}[sense] * printed_contrast(contrast, anchor[sense], references, sense) / 3
    assert steps[0]["total"].item() == pytest.approx(total, abs=1e-9)


def printed_contrast(contrast, anchor, references, sense):
    """Of one clip: Eq. 8, with its share or with 1, or the References' decisions as labels."""
    if contrast == "none":
        return 0.0
    if contrast == "pseudo_labels":
        return np.mean([binary(p, float(r >= 0.5)) for p, r in zip(anchor[1], references[sense][1], strict=True)])
    s = np.exp(unit_products(anchor[0], references[sense][0]) / 0.2)
    length = len(s)
    terms = [math.log(s[t, t] / sum(s[t, n] for n in range(length) if n != t)) for t in range(length)] if length > 1 else [0.0]
    return -(share(references, sense, 0.5) if contrast == "event_aware" else 1) * sum(terms) / length


def reached(method, terms):
    """First parts of the names of the parameters that ``total`` reaches."""
    method.zero_grad(set_to_none=True)
    terms["total"].backward()
    return {name for name, weight in method.named_parameters() if weight.grad is not None}


def test_each_released_step_reaches_its_own_network_and_no_other():
    method, (batch, targets) = build(), example()
    steps = [reached(method, terms) for terms in method.steps(batch, targets, Progress(9, 10))]
    everything = {name for name, _ in method.named_parameters()}
    heard = {name for name in everything if name.startswith(("references.front_end.audio", "references.heard"))}
    anchor = {name for name in everything if name.startswith("anchor.")}
    assert steps == [heard, everything - heard - anchor, anchor]


def test_teachers_get_no_gradient_as_printed_either():
    """Without the References' own losses nothing reaches them; without the Anchor's, only what they teach reaches it."""
    method, (batch, targets) = build("paper"), example()
    terms = next(iter(method.steps(batch, targets, Progress(0, 15))))
    taught = sum(terms[f"{name}_{sense}"] for name in ("event", "co_occurrence") for sense in SENSES)
    assert all(name.startswith("anchor.") for name in reached(method, {"total": taught}))
    terms = next(iter(method.steps(batch, targets, Progress(0, 15))))
    learned = sum(terms[f"{name}_{sense}"] for name in ("reference", "tokens", "self_modality") for sense in SENSES)
    assert all(name.startswith("references.") for name in reached(method, {"total": learned}))


def test_one_adam_over_three_steps_is_three_adams():
    batch, targets = example()
    methods = [build(limit=0.3) for _ in range(2)]
    parts = [
        [*methods[1].references.front_end.audio.parameters(), *methods[1].references.heard.parameters()],
        [
            *(p for name, p in methods[1].references.front_end.named_parameters() if not name.startswith("audio")),
            *methods[1].references.seen.parameters(),
        ],
        [*methods[1].anchor.parameters()],
    ]
    one, three = torch.optim.Adam(methods[0].parameters(), 1e-2), [torch.optim.Adam(part, 1e-2) for part in parts]
    for epoch in range(5):
        for terms in methods[0].steps(batch, targets, Progress(epoch, 5)):
            one.zero_grad(set_to_none=True)
            terms["total"].backward()
            one.step()
        for optimizer, terms in zip(three, methods[1].steps(batch, targets, Progress(epoch, 5)), strict=True):
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()
    for first, second in zip(methods[0].parameters(), methods[1].parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(("variant", "leaves"), [("released", False), ("paper", True)])
def test_class_tokens_leave_one_half_in_the_variant_paper_alone(variant, leaves):
    """The networks as they are born; four batches of training."""
    torch.manual_seed(0)
    method = create(
        "coleaf", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, variant=variant, anchor="han",
        anchor_settings={"width": 8, "feedforward": 8},
    ).double()  # fmt: skip
    batch, targets = example()
    optimizer = torch.optim.Adam(method.parameters(), 5e-4)
    for _ in range(4):
        for terms in method.steps(batch, targets, Progress(0, 10)):
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            optimizer.step()
    inputs = method.eval().inputs(batch)
    classes = method.references.hear(inputs.audio, inputs.mask).classes
    assert ((classes - 0.5).abs().max() > 0.05) == leaves
    assert leaves or (classes - 0.5).abs().max() < 5e-3


def test_only_the_anchor_is_kept_and_it_predicts_as_it_did():
    batch, _ = example()
    method = build().eval()
    kept = method.kept_weights()
    assert set(kept) == {f"anchor.{name}" for name in method.anchor.state_dict()}
    loaded = build(limit=0.1).eval()
    loaded.load_kept(kept)
    assert sum(weight.numel() for weight in loaded.parameters()) == sum(weight.numel() for weight in method.anchor.parameters())
    for first, second in itertools.pairwise((method.predict(batch), loaded.predict(batch), method.anchor.predict(batch))):
        for name in vars(first):
            assert torch.equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize("anchor", ["han", "jomold", "cmpae"])
def test_the_anchor_learns_by_its_own_losses_too(anchor):
    """Its terms are those of the method by itself, with the noise ratios at 0, and in the variant paper so are their weights."""
    batch, targets = example()
    method = build("paper", anchor, contrast="none", co_occurrence=False)
    alone = METHODS.get(anchor)(method.config.anchor_config, (2, 4), (7,), CLASSES, {"motion": (5,)}).double()
    alone.load_state_dict(method.anchor.state_dict())
    expected, terms = (learner.losses(batch, targets, Progress(3, 20, 1)) for learner in (alone, method))
    own = {name for name in expected if name != "total"}
    assert own > {"heard", "seen", "clip"} or anchor == "han"
    for name in own:
        torch.testing.assert_close(terms[name], expected[name])
    others = sum(term for name, term in terms.items() if name.startswith(("reference_", "tokens_", "self_modality_")))
    torch.testing.assert_close(terms["total"] - others, expected["total"])


def test_what_the_variants_and_anchors_set():
    config = METHODS.get("coleaf").Config
    released, paper, han = config(), config(variant="paper"), config(anchor="han")
    assert (released.recipe.epochs, paper.recipe.epochs) == (10, 15)
    assert paper.recipe.model_copy(update={"epochs": 10}) == released.recipe
    assert (released.recipe.learning_rate, released.recipe.batch_size, released.recipe.decay) == (5e-4, 128, 0.25)
    assert (released.token_head, paper.token_head) == ("mean", "linear")
    assert (released.clip_threshold, paper.clip_threshold, han.clip_threshold) == (0.52, None, None)
    assert config(variant="paper", recipe={"epochs": 3}).recipe.epochs == 3
    assert (released.first_method, han.first) == ("jomold", None)
    assert released.first.recipe.epochs == 10
    batch, _ = example()
    thresholds = build(anchor="cmpae").predict(batch).thresholds
    assert thresholds[0, :, :, 0].tolist() == [[0.25, 0.52], [0.25, 0.52]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anchor": "psp"}, "'psp' is no method that can be one; there are: cmpae, han, jomold"),
        ({"anchor": "coleaf"}, "'coleaf' is no method that can be one"),
        ({"anchor": "hann"}, "'hann' is no method"),
        ({"anchor_settings": {"widht": 3}}, "widht"),
        ({"anchor_settings": {"recipe": {}}}, "anchor_settings: recipe: set it in this method's own settings"),
    ],
)
def test_settings_that_make_no_anchor_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        METHODS.get("coleaf").Config(**settings)


def test_rows_depend_on_the_code_of_every_anchor(repository):
    """DVC knows a row's method and not what its settings name."""
    stages = YAML(typ="safe").load(repository / "dvc.yaml")["stages"]
    anchors = [name for name in METHODS.names() if issubclass(METHODS.get(name), AnchorMethod)]
    bases = {base.__module__ for name in anchors for base in METHODS.get(name).__mro__ if base.__module__.startswith("pipeline.methods.")}
    files = {f"{module.replace('.', '/')}.py" for module in bases}
    for stage in ("train", "evaluate"):
        assert files <= set(stages[stage]["do"]["deps"])
