"""Published dropout rates, their places, and default settings of video parsing methods.

The restatements run without dropout and with other settings, so they cannot check these.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from test_published_settings import build, dropouts

from pipeline.batch import Batch
from pipeline.methods import METHODS

# Of one stream: behind its own attention, behind the other modality's, in the FFN and behind it; and the weights of both attentions.
ACROSS, ALONE = (
    Counter({("attention", 0.1): 4, ("attention, attention", 0.1): 2}),
    Counter({("attention", 0.1): 3, ("attention, attention", 0.1): 1}),
)


NARROW, NARROW_LEAP = {"width": 16, "feedforward": 8}, {"width": 16, "encoder_feedforward": 8, "decoder_feedforward": 8}
PYRAMID = Counter({("encoder", 0.2): (4 * 3 + 2) * 3, ("encoder, attention", 0.1): 4 * 3 + 2})


def times(number: int, calls: Counter) -> Counter:
    return Counter({place: number * count for place, count in calls.items()})


def within(part: str, calls: Counter) -> Counter:
    """The same calls, in a network that is a part of the method."""
    return Counter({(place.replace("attention", part, 1), rate): count for (place, rate), count in calls.items()})


def at_rate(rate: float, calls: Counter) -> Counter:
    """The same calls at another rate."""
    return Counter({(place, rate): count for (place, _), count in calls.items()})


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("han", {}, times(2, ACROSS)),
        ("ma", {}, times(2, ACROSS)),
        ("jomold", {}, times(2, ACROSS) + Counter({("dropout", 0.5): 1})),
        ("cmpae", {}, times(2, ACROSS) + times(2, ALONE) + Counter({("dropout", 0.5): 1, ("pooling", 0.2): 2})),
        ("cvcms", {}, at_rate(0.4, times(2, ACROSS)) + at_rate(0.25, within("classes", times(2, ACROSS)))),
        (
            "dhhn",
            {},
            times(6, ACROSS)
            + Counter({("audio_guide", 0.1): 12, ("audio_guide, attention", 0.1): 4})
            + Counter({("visual_guide", 0.1): 18, ("visual_guide, attention", 0.1): 6}),
        ),
        # Three blocks a level, the one across the streams for both directions at once, and two that fuse the levels.
        ("mm_pyramid", NARROW, PYRAMID),
        ("leap", {**NARROW_LEAP, "pseudo_labels": None}, PYRAMID + Counter({("decoders", 0.2): 4 * 3, ("decoders, attention", 0.1): 4})),
        # Both References twice, to learn and to teach.
        (
            "coleaf",
            {"anchor": "han"},
            within("anchor", times(2, ACROSS)) + within("references", times(4, ALONE)) + Counter({("references", 0.5): 4}),
        ),
        (
            "coleaf",
            {"anchor": "han", "variant": "paper"},
            within("anchor", times(2, ACROSS)) + within("references", times(2, ALONE)) + Counter({("references", 0.5): 2}),
        ),
    ],
    ids=str,
)
def test_dropout_is_where_it_is_published(name, config, expected):
    assert dropouts(build(name, motion=None, **config)) == expected


@pytest.mark.parametrize("name", ["jomold", "cmpae"])
def test_half_of_the_visual_stream_is_dropped_before_pooling_and_nothing_of_the_audio(name):
    """The dropout comes after the tokens used by the contrast and CoLeaF."""
    method, pooled = build(name, motion=None).train(), []
    method.pooling.register_forward_hook(lambda _module, inputs, _output: pooled.extend(inputs[:2]))
    batch = Batch(torch.randn(2, 4, 2, 2, 8), torch.randn(2, 4, 128), torch.ones(2, 4, dtype=torch.bool))
    said = method.anchor_forward(method.inputs(batch))
    audio, visual = pooled
    assert torch.equal(audio, said.audio_tokens)
    kept = visual != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(visual[kept], 2 * said.visual_tokens[kept])


# Learning rate, epochs at which it falls, factor, batch, epochs, what picks the epoch; thresholds of segment and clip.
RECIPES = {
    "han": (3e-4, (10, 20, 30), 0.1, 16, 40, None, 0.5, 0.5),
    "ma": (3e-4, (10,), 0.1, 16, 12, "last", 0.5, 0.5),
    "jomold": (5e-4, (6, 12, 18, 24), 0.25, 128, 25, "event/A", 0.5, 0.5),
    "cmpae": (5e-4, (6, 12, 18), 0.25, 128, 20, "mean_of_ten", 0.25, 0.45),
    "cvcms": (7e-5, (7, 14, 21, 28, 35), 0.5, 64, 40, "event/Type@AV", 0.5, 0.5),
    "dhhn": (3e-4, (), 0.5, 64, 10, None, 0.5, 0.5),
    "mgn": (3e-4, (10, 20, 30), 0.1, 16, 40, None, 0.5, 0.5),
    "coleaf": (5e-4, (6, 12), 0.25, 128, 10, "mean_of_ten_new", None, 0.52),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_released_recipes_and_thresholds_are_the_defaults(name):
    config = METHODS.get(name).Config()
    recipe = config.recipe
    found = (recipe.learning_rate, recipe.milestones, recipe.decay, recipe.batch_size, recipe.epochs, recipe.selection)
    assert (*found, config.segment_threshold, config.clip_threshold) == RECIPES[name]
    assert (recipe.optimizer, recipe.weight_decay, recipe.clip_norm) == ("adam", 0.0, None)


def test_the_released_weights_and_shares_are_the_defaults():
    of = {name: METHODS.get(name).Config().model_dump() for name in RECIPES}
    assert {name: of[name]["visual_share"] for name in ("han", "ma", "jomold", "cmpae", "dhhn")} == dict.fromkeys(
        ("han", "ma", "jomold", "cmpae", "dhhn"), 0.9
    )
    assert {(of[name]["audio_threshold"], of[name]["visual_threshold"]) for name in ("jomold", "cmpae")} == {(0.6, 1.8)}
    assert [of["cmpae"][name] for name in ("audio_weight", "visual_weight", "clip_weight", "cross_share", "cross_share_in_inference")] == [
        2.0, 0.6, 0.6, 0.8, 0.7,
    ]  # fmt: skip
    cvcms = of["cvcms"]
    assert (cvcms["visual_share"], cvcms["smoothed_epochs"], cvcms["contrast_weight"], cvcms["temperature"]) == (0.9, 2, 0.85, 1.0)
    coleaf = of["coleaf"]
    assert (coleaf["audio_weight"], coleaf["visual_weight"], coleaf["clip_weight"]) == (2.0, 1.0, 2.0)
    assert (coleaf["contrast_weight_audio"], coleaf["contrast_weight_visual"], coleaf["co_occurrence_weight"]) == (0.009, 1.0, 1e-4)
    assert (coleaf["pseudo_threshold_audio"], coleaf["pseudo_threshold_visual"], coleaf["event_threshold"]) == (0.5, 0.6, 0.5)
    assert (coleaf["temperature"], coleaf["self_modality_weight"], coleaf["token_weight"]) == (0.2, 0.5, 1.0)
