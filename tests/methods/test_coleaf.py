"""CoLeaF: the order of its training steps, which loss reaches which network, the kept weights, and its settings."""

from __future__ import annotations

import itertools

import pytest
import torch
from pydantic import ValidationError
from test_coleaf_losses import MODALITIES, build
from test_han import CLASSES, example

from pipeline.methods import METHODS, Progress, create


def test_the_passes_of_a_released_batch_and_their_order(monkeypatch):
    """All passes in train mode; teaching passes without a gradient; teachers run after their own steps."""
    method, (batch, targets), passes = build(anchor="cmpae").train(), example(), []

    def watch(network, name, label):
        original = getattr(network, name)

        def watched(*arguments, **keywords):
            told = "" if label != "anchor" or (keywords or {"cross": arguments[-1]})["cross"] else " alone"
            passes.append(f"{label}{told}{'' if torch.is_grad_enabled() else ', no gradient'}{'' if network.training else ', evaluating'}")
            return original(*arguments, **keywords)

        monkeypatch.setattr(network, name, watched)

    watch(method.anchor, "anchor_forward", "anchor")
    watch(method.references, "embed_audio", "audio")
    watch(method.references, "embed_visual", "visual")
    for _ in method.steps(batch, targets, Progress(3, 10)):
        passes.append("step")
    told = ["anchor alone, no gradient", "anchor, no gradient"]
    assert passes == [*told, "audio", "step", "visual", "step", "audio, no gradient", "visual, no gradient", "anchor", "step"]


def reached(method, terms):
    """First parts of the names of the parameters that ``total`` reaches."""
    method.zero_grad(set_to_none=True)
    terms["total"].backward()
    return {name for name, weight in method.named_parameters() if weight.grad is not None}


def test_each_released_step_reaches_its_own_network_and_no_other():
    method, (batch, targets) = build(), example()
    steps = [reached(method, terms) for terms in method.steps(batch, targets, Progress(9, 10))]
    everything = {name for name, _ in method.named_parameters()}
    audio = {name for name in everything if name.startswith(("references.front_end.audio", "references.audio"))}
    anchor = {name for name in everything if name.startswith("anchor.")}
    assert steps == [audio, everything - audio - anchor, anchor]


def test_teachers_get_no_gradient_as_printed_either():
    """Without their own losses no gradient reaches the References; without its own, only teaching losses reach the Anchor."""
    method, (batch, targets) = build("paper"), example()
    terms = next(iter(method.steps(batch, targets, Progress(0, 15))))
    taught = sum(terms[f"{name}_{modality}"] for name in ("event", "co_occurrence") for modality in MODALITIES)
    assert all(name.startswith("anchor.") for name in reached(method, {"total": taught}))
    terms = next(iter(method.steps(batch, targets, Progress(0, 15))))
    learned = sum(terms[f"{name}_{modality}"] for name in ("reference", "tokens", "self_modality") for modality in MODALITIES)
    assert all(name.startswith("references.") for name in reached(method, {"total": learned}))


def test_one_adam_over_three_steps_is_three_adams():
    batch, targets = example()
    methods = [build(limit=0.3) for _ in range(2)]
    parts = [
        [*methods[1].references.front_end.audio.parameters(), *methods[1].references.audio.parameters()],
        [
            *(p for name, p in methods[1].references.front_end.named_parameters() if not name.startswith("audio")),
            *methods[1].references.visual.parameters(),
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
    """Newly initialized networks, four batches of training."""
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
    classes = method.references.embed_audio(inputs.audio, inputs.mask).classes
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
        for name, value in first.tensors().items():
            assert torch.equal(value, second.tensors()[name]), name


@pytest.mark.parametrize("anchor", ["han", "jomold", "cmpae"])
def test_the_anchor_learns_by_its_own_losses_too(anchor):
    """With noise ratios 0 its terms equal those of the method alone, and in the variant paper so do their weights."""
    batch, targets = example()
    method = build("paper", anchor, contrast="none", co_occurrence=False)
    alone = METHODS.get(anchor)(method.config.anchor_config, (2, 4), (7,), CLASSES, {"motion": (5,)}).double()
    alone.load_state_dict(method.anchor.state_dict())
    expected, terms = (learner.losses(batch, targets, Progress(3, 20, 1)) for learner in (alone, method))
    own = {name for name in expected if name != "total"}
    assert own > {"audio", "visual", "clip"} or anchor == "han"
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
        ({"anchor": "psp"}, "'psp'.*cmpae, han, jomold"),
        ({"anchor": "coleaf"}, "'coleaf'.*cmpae, han, jomold"),
        ({"anchor": "hann"}, "'hann'"),
        ({"anchor_settings": {"widht": 3}}, r"anchor_settings\.widht: .*'width'"),
        ({"anchor_settings": {"width": -3, "dropout": 2}}, r"settings\.width: .* 1.*anchor_settings\.dropout: "),
        ({"anchor_settings": {"recipe": {}}}, "anchor_settings.*recipe"),
        ({"anchor_settings": {"threshold_epoch": 2, "selected_for": ["audio"]}}, "anchor_settings.*selected_for, threshold_epoch"),
        ({"anchor_settings": {"audio_weight": 9.0, "clip_threshold": 0.3}}, "anchor_settings.*audio_weight, clip_threshold"),
    ],
)
def test_settings_that_make_no_anchor_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        METHODS.get("coleaf").Config(**settings)


def test_what_is_left_to_the_anchor_is_set_in_its_settings():
    """In the variant paper the Anchor's own loss weights and thresholds apply, including those set in its settings."""
    batch, _ = example()
    config = {"variant": "paper", "anchor_settings": {"audio_weight": 9.0, "clip_threshold": 0.3}}
    method = create("coleaf", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, **config)
    assert method._anchor_weights() == {"audio": 9.0, "visual": 0.6, "clip": 0.6}
    thresholds = method.double().eval().predict(batch).thresholds[0, :, :, 0]
    torch.testing.assert_close(thresholds, torch.tensor([[0.25, 0.3], [0.25, 0.3]], dtype=thresholds.dtype))
