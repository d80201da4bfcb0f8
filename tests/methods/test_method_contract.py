"""The contract of every registered audio-visual event localization method, in each of its main variants."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from flat_gradients import assert_all_but_flat, doubled
from pydantic import ValidationError

from pipeline.batch import Batch, Tensors
from pipeline.errors import PipelineError
from pipeline.methods import METHODS, Method, Progress, create
from pipeline.registry import UnknownName
from pipeline.tasks import avel as task
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class Small(NamedTuple):
    """A method built small: its settings, variants of them, and the names of its dropouts."""

    settings: dict
    variants: list[dict]
    dropouts: tuple[str, ...] = ()


SUPPRESSION = {
    "visual_hidden": 16, "audio_hidden": 8, "attention_width": 8, "width": 16, "intra_feedforward": 24, "cross_feedforward": 24,
}  # fmt: skip
WEAK = {"supervision": "weak"}
SMALL = {
    "avel": Small(
        {"attention_width": 12, "recurrent_width": 8, "classifier_width": 16},
        [
            {}, {"modality": "audio"}, {"modality": "visual"}, {"variant": "released"}, {"fusion": "dmrn"}, WEAK,
            {**WEAK, "variant": "released"}, {**WEAK, "fusion": "dmrn"}, {**WEAK, "modality": "audio"},
        ],
    ),
    "cace_net": Small(
        SUPPRESSION,
        [
            {}, {"variant": "paper"}, {"guidance": "none"}, {"guidance": "audio"}, {"guidance": "visual"},
            {"guidance": "visual", "variant": "paper"}, {"temporal": "lstm"}, {"temporal": "snn"}, {"temporal": "none"},
            {"contrast": False}, {"enhanced_heads": "both"}, {"augmentation": "channel_mask"}, {"augmentation": "mixup"},
            {"gate_loss": "faithful"}, WEAK, {**WEAK, "contrast": False},
        ],
        ("input_dropout", "dropout", "interaction_dropout"),
    ),
    "ccln": Small(
        {**SUPPRESSION, "contrast_width": 8},
        [{}, {"interaction": "plain"}, {"interaction": "none", "foreground_enhancement": False}, {"contrast": False}, WEAK],
        ("input_dropout", "dropout", "interaction_dropout"),
    ),
    "cmbs": Small(
        SUPPRESSION,
        [{}, {"gate_loss": "faithful"}, WEAK, {**WEAK, "video_loss": "soft_margin"}, {**WEAK, "weak_evaluation": "published"}],
        ("input_dropout", "attention_dropout", "dropout", "interaction_dropout"),
    ),
    "cmran": Small(
        {"visual_hidden": 16, "width": 16, "feedforward": 24},
        [{}, WEAK, {**WEAK, "video_loss": "soft_margin"}],
        ("input_dropout", "dropout"),
    ),
    "psp": Small(
        {"attention_width": 12, "input_width": 12, "input_hidden": 16, "recurrent_width": 8, "classifier_width": 16},
        [{}, WEAK, {**WEAK, "video_labels": "proportions"}],
        ("dropout",),
    ),
}  # fmt: skip
CASES = [
    pytest.param(name, {**small.settings, **variant}, id="-".join([name, *(f"{key}={value}" for key, value in variant.items())]))
    for name, small in SMALL.items()
    for variant in small.variants
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Use one thread: tensors this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


every_case = pytest.mark.parametrize(("name", "config"), CASES)
CLASSES = 3
EARLY, LATE = Progress(0, 80), Progress(79, 80)


def build(name: str, config: dict, visual_shape: tuple[int, ...] = (2, 3, 6), audio_shape: tuple[int, ...] = (7,), seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return create(name, visual_shape=visual_shape, audio_shape=audio_shape, num_classes=CLASSES, **config)


def random_batch(
    clips: int = 4, segments: int = 6, visual_shape: tuple[int, ...] = (2, 3, 6), audio_shape: tuple[int, ...] = (7,), seed: int = 1
) -> tuple[Batch, AvelTargets]:
    """Noise, and one class per clip on about two thirds of its segments, the first among them."""
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(clips, segments, *visual_shape, generator=generator)
    audio = torch.randn(clips, segments, *audio_shape, generator=generator)
    video = torch.randint(CLASSES, (clips,), generator=generator)
    event = torch.rand(clips, segments, generator=generator) < 0.6
    event[:, 0] = True
    labels = torch.where(event, video[:, None], torch.full_like(video[:, None], CLASSES))
    return Batch(visual, audio, torch.ones(clips, segments, dtype=torch.bool)), AvelTargets(labels, video)


def told(method: Method, targets: AvelTargets) -> Tensors:
    """Targets of the kind that the method trains on; as proportions, half of the clip has its class."""
    labels = method.config.training_labels
    if labels == "segments":
        return targets
    video = torch.nn.functional.one_hot(targets.video, CLASSES + 1).float()
    if labels == "proportions":
        video = (video + torch.eye(CLASSES + 1)[CLASSES]) / 2
    return VideoTargets(video)


def losses(method: Method, batch: Batch, targets: AvelTargets, progress: Progress = LATE, seed: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)  # dropout and the contrast's noise
    return method.losses(batch, told(method, targets), progress)


def assert_same(first: Scores, second: Scores, **tolerance) -> None:
    for name in ("segments", "event", "classes", "attention"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, **(tolerance or {"atol": 1e-5, "rtol": 1e-4}))


def test_every_registered_method_is_here():
    assert set(SMALL) == {name for name in METHODS.names() if "avel" in METHODS.get(name).tasks}


@every_case
@pytest.mark.parametrize("visual_shape", [(7, 7, 512), (4, 4, 320), (320,)], ids=str)
@pytest.mark.parametrize("audio_shape", [(128,), (1024,)], ids=str)
def test_shapes_and_ranges(name, config, visual_shape, audio_shape):
    method = build(name, config, visual_shape, audio_shape).eval()
    batch, targets = random_batch(2, 4, visual_shape, audio_shape)
    with torch.no_grad():
        scores = method.predict(batch)
        terms = losses(method, batch, targets)
    assert scores.segments.shape == (2, 4, CLASSES + 1)
    torch.testing.assert_close(scores.segments.sum(-1), torch.ones(2, 4))
    assert (scores.segments >= 0).all()
    assert (scores.event is None) == (scores.classes is None)
    if scores.event is not None:
        assert scores.event.shape == (2, 4)
        assert ((scores.event >= 0) & (scores.event <= 1)).all()
        torch.testing.assert_close(scores.classes.sum(-1), torch.ones(2))
        assert scores.classes.shape == (2, method.clip_labels)
    if scores.attention is not None:
        positions = visual_shape[0] * visual_shape[1] if len(visual_shape) == 3 else 1
        assert scores.attention.shape == (2, 4, positions)
        torch.testing.assert_close(scores.attention.sum(-1), torch.ones(2, 4))
    assert "total" in terms
    assert all(term.shape == () and term.isfinite() for term in terms.values())


@pytest.mark.processor
@every_case
def test_every_parameter_gets_a_gradient(name, config):
    method = build(name, config).double()
    reached: dict[str, torch.Tensor] = {}
    for progress, seed in itertools.product((EARLY, LATE), range(3)):
        batch, targets = random_batch(seed=seed)
        method.zero_grad()
        losses(method, doubled(batch), targets, progress)["total"].backward()
        for parameter_name, parameter in method.named_parameters():
            if parameter.grad is not None:
                largest = torch.maximum(reached.get(parameter_name, parameter.grad).abs(), parameter.grad.abs())
                reached[parameter_name] = largest
    assert_all_but_flat(method, reached)


@pytest.mark.processor
@every_case
def test_a_clip_is_scored_alone_as_in_a_batch(name, config):
    method = build(name, config).eval()
    batch, _ = random_batch()
    with torch.no_grad():
        together = method.predict(batch)
        for clip in range(4):
            assert_same(together[clip : clip + 1], method.predict(batch[clip : clip + 1]))


def padded(fill: float):
    """Clips of 6, 4, 1 and 6 segments, ``fill`` behind their ends."""
    batch, targets = random_batch()
    mask = torch.arange(6) < torch.tensor([6, 4, 1, 6])[:, None]
    visual = torch.where(mask[:, :, None, None, None], batch.visual, torch.tensor(fill))
    audio = torch.where(mask[:, :, None], batch.audio, torch.tensor(fill))
    labels = torch.where(mask, targets.segments, torch.tensor(CLASSES if fill == 0 else 0))
    return Batch(visual, audio, mask), AvelTargets(labels, targets.video)


@pytest.mark.processor
@every_case
@pytest.mark.parametrize("fill", [7.0, float("nan")])
@pytest.mark.fault(3, 6)
def test_values_in_the_padding_change_nothing(name, config, fill):
    method = build(name, config).train()
    (zeros, zero_targets), (filled, filled_targets) = padded(0.0), padded(fill)
    one, other = losses(method, zeros, zero_targets), losses(method, filled, filled_targets)
    for term in one:
        torch.testing.assert_close(one[term], other[term], msg=lambda text, term=term: f"{term}: {text}")
    gradients = []
    for batch, targets in ((zeros, zero_targets), (filled, filled_targets)):
        method.zero_grad()
        losses(method, batch, targets)["total"].backward()
        gradients.append([parameter.grad.clone() for parameter in method.parameters() if parameter.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    method.eval()
    with torch.no_grad():
        one, other = method.predict(zeros), method.predict(filled)
    torch.testing.assert_close(one.segments[zeros.mask], other.segments[zeros.mask])


@pytest.mark.processor
@every_case
@pytest.mark.fault(6)
def test_a_padded_clip_is_the_clip_cut_short(name, config):
    method = build(name, config).eval()
    batch, _ = padded(7.0)
    short = Batch(batch.visual[1:2, :4], batch.audio[1:2, :4], batch.mask[1:2, :4])
    with torch.no_grad():
        scores, alone = method.predict(batch), method.predict(short)
    torch.testing.assert_close(scores.segments[1:2, :4], alone.segments, atol=1e-5, rtol=1e-4)
    if scores.classes is not None:
        torch.testing.assert_close(scores.classes[1:2], alone.classes, atol=1e-5, rtol=1e-4)


@every_case
def test_a_clip_of_padding_alone_has_no_weight(name, config):
    method = build(name, config).eval()
    batch, targets = random_batch(2)
    empty = Batch(batch.visual, batch.audio, torch.stack([batch.mask[0], ~batch.mask[1]]))
    other = AvelTargets(targets.segments, torch.stack([targets.video[0], (targets.video[1] + 1) % CLASSES]))
    for progress in (EARLY, LATE):
        with torch.no_grad():
            one, changed = losses(method, empty, targets, progress), losses(method, empty, other, progress)
        assert one["total"].isfinite()
        assert one == changed
        assert method.predict(empty).segments.isfinite().all()


@pytest.mark.processor
@every_case
def test_the_same_seed_trains_the_same_weights(name, config):
    def trained():
        method = build(name, config, seed=3).train()
        optimizer = torch.optim.Adam(method.parameters(), 1e-2)
        for _ in range(2):
            batch, targets = random_batch()
            optimizer.zero_grad()
            method.losses(batch, told(method, targets), LATE)["total"].backward()
            optimizer.step()
        return method.state_dict()

    first, second = trained(), trained()
    for key in first:
        assert torch.equal(first[key], second[key]), key


@every_case
@pytest.mark.parametrize("progress", [EARLY, LATE], ids=["early", "late"])
def test_a_saved_method_predicts_as_it_did(name, config, progress, tmp_path):
    method = build(name, config)
    batch, targets = random_batch()
    losses(method, batch, targets, progress)
    method.eval()
    safetensors.torch.save_file(method.state_dict(), tmp_path / "weights.safetensors")
    restored = build(name, config, seed=9).eval()
    restored.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"), strict=True)
    with torch.no_grad():
        assert_same(method.predict(batch), restored.predict(batch), atol=0, rtol=0)


@every_case
@pytest.mark.fault(32)
def test_odd_batches(name, config):
    """One clip, one segment, no event anywhere: finite losses and gradients."""
    method = build(name, config).train()
    single = random_batch(1)
    instant = random_batch(3, segments=1)
    batch, targets = random_batch()
    background = batch, AvelTargets(torch.full_like(targets.segments, CLASSES), torch.full_like(targets.video, CLASSES))
    for features, truth in (single, instant, background):
        for progress in (EARLY, LATE):
            method.zero_grad()
            terms = losses(method, features, truth, progress)
            assert all(term.isfinite() for term in terms.values())
            terms["total"].backward()
            assert all(parameter.grad.isfinite().all() for parameter in method.parameters() if parameter.grad is not None)


@pytest.mark.processor
@every_case
def test_bfloat16_autocast(name, config):
    method = build(name, config).train()
    batch, targets = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = losses(method, batch, targets)
        terms["total"].backward()
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters() if parameter.grad is not None)
    method.eval()
    with torch.no_grad():
        exact = method.predict(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = method.predict(batch)
    assert rough.segments.dtype == torch.float32
    assert_same(exact, rough, atol=0.05, rtol=0)


@pytest.mark.processor
@every_case
def test_float16_features_as_the_store_holds_them(name, config):
    method = build(name, config).eval()
    batch, _ = random_batch()
    half = Batch(batch.visual.half(), batch.audio.half(), batch.mask)
    with torch.no_grad():
        assert_same(method.predict(half), method.predict(batch), atol=0.01, rtol=0)


# The slowest test: those variants whose loss or inputs differ.
LEARNS = [
    case for case in CASES
    if case.id in {
        "avel", "avel-modality=audio", "avel-modality=visual", "avel-fusion=dmrn", "avel-supervision=weak", "cace_net",
        "cace_net-variant=paper", "cace_net-guidance=none", "cace_net-temporal=snn", "cace_net-supervision=weak",
        "ccln", "ccln-supervision=weak", "cmbs", "cmbs-supervision=weak",
        "cmbs-supervision=weak-video_loss=soft_margin", "cmran", "cmran-supervision=weak", "psp", "psp-supervision=weak",
    }
]  # fmt: skip


@pytest.mark.processor
@pytest.mark.parametrize(
    ("name", "config"), [*LEARNS, pytest.param("avel", {**SMALL["avel"].settings, "variant": "released"}, id="avel-released")]
)
def test_learns_sixteen_random_clips_by_heart(name, config):
    """Reach 95 % of the training labels without dropout (the most common label gives under 50 %).

    The number of steps depends on rounding; most need 75.
    """
    method = build(name, {**config, **dict.fromkeys(SMALL[name].dropouts, 0.0)}).train()
    batch, targets = random_batch(16, segments=4)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    for step in range(500):
        optimizer.zero_grad()
        method.losses(batch, told(method, targets), Progress(step, 500))["total"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 24 and learned(method, batch, targets) >= 95:
            return
    pytest.fail(f"{learned(method, batch, targets):.1f} % after 500 steps")


def learned(method: Method, batch: Batch, targets: AvelTargets) -> float:
    """Accuracy without dropout, of segments; weakly supervised: of clips."""
    method.eval()
    with torch.no_grad():
        scores = method.predict(batch)
    method.train()
    if isinstance(told(method, targets), VideoTargets):
        clips = scores.segments.mean(dim=1) if scores.classes is None else scores.classes
        return 100 * (clips.argmax(dim=-1) == targets.video).float().mean().item()
    return task.evaluate(task.decide(scores, batch.mask), targets.segments, batch.mask, CLASSES)["accuracy"]


@every_case
def test_labels_of_another_supervision_are_refused(name, config):
    """A weakly supervised method refuses segment labels."""
    method = build(name, config)
    batch, targets = random_batch()
    right = told(method, targets)
    wrong = VideoTargets(torch.zeros(4, CLASSES + 1)) if right is targets else targets
    with pytest.raises(TypeError, match="train on"):
        method.losses(batch, wrong, LATE)


@pytest.mark.parametrize("name", SMALL)
def test_features_of_another_shape_are_refused(name):
    method = build(name, SMALL[name].settings)
    with pytest.raises(PipelineError, match=r"visual.*\(2, 2, 6\).*\(2, 3, 6\)"):
        method.predict(random_batch(visual_shape=(2, 2, 6))[0])
    with pytest.raises(PipelineError, match=r"audio.*\(8,\).*\(7,\)"):
        method.predict(random_batch(audio_shape=(8,))[0])


@pytest.mark.parametrize("name", SMALL)
def test_settings_are_checked(name):
    with pytest.raises(ValidationError, match="no_such_setting"):
        build(name, {"no_such_setting": 1})
    with pytest.raises(ValidationError, match="learning_rate"):
        build(name, {"recipe": {"learning_rate": 0}})


@pytest.mark.parametrize("name", SMALL)
def test_part_of_a_recipe_keeps_the_rest_of_the_papers(name):
    default = METHODS.get(name).Config().recipe
    changed = METHODS.get(name).Config(recipe={"epochs": 3}).recipe
    assert changed.model_dump() == {**default.model_dump(), "epochs": 3}


def test_unknown_method():
    with pytest.raises(UnknownName, match="'cace_net'"):
        build("cacenet", {})
