"""The contract of every audio-visual video parsing method, in each of its main variants."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from flat_gradients import assert_all_but_flat, doubled
from pydantic import ValidationError

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods import METHODS, Method, Progress, create
from pipeline.tasks import avvp
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.avvp import ParsingScores, ParsingTargets
from pipeline.tasks.labels import VideoTargets

SMALL = {"width": 16, "feedforward": 24}
NARROW = {
    **dict.fromkeys(("han", "ma", "jomold", "cmpae"), SMALL),
    "coleaf": {"feedforward": 24, "anchor": "han", "anchor_settings": {**SMALL, "dropout": 0.0}},
}
VARIANTS = {
    "han": [{}, {"motion": None}],
    "ma": [{}, {"motion": None}],
    "jomold": [{}, {"motion": None}, {"denoise": False}],
    "cmpae": [{}, {"motion": None}, {"denoise": False}],
    "coleaf": [
        {}, {"variant": "paper"}, {"motion": None, "token_head": "none", "contrast": "plain"}, {"contrast": "pseudo_labels"},
        {"contrast": "none", "self_modality": False, "co_occurrence": False}, {"anchor": "jomold", "variant": "paper"},
        {"anchor": "cmpae"},
    ],
}  # fmt: skip
CASES = [
    pytest.param(name, {**NARROW[name], **variant}, id="-".join([name, *(f"{key}={value}" for key, value in variant.items())]))
    for name, variants in VARIANTS.items()
    for variant in variants
]
every_case = pytest.mark.parametrize(("name", "config"), CASES)
DROPOUTS = {
    "han": ("dropout",),
    "ma": ("dropout",),
    "jomold": ("dropout", "visual_dropout"),
    "cmpae": ("dropout", "visual_dropout", "absence_dropout"),
    "coleaf": ("dropout", "head_dropout"),
}
CLASSES, VISUAL, AUDIO, MOTION = 3, (2, 6), (7,), (5,)
EARLY, LATE = Progress(0, 80), Progress(79, 80)


def build(name: str, config: dict, seed: int = 0, visual: tuple[int, ...] = VISUAL) -> Method:
    torch.manual_seed(seed)
    method = create(name, visual_shape=visual, audio_shape=AUDIO, num_classes=CLASSES, other_shapes={"motion": MOTION}, **config)
    for buffer in method.buffers():  # noise ratios: a part of the labels goes
        buffer.fill_(0.6)
    return method


def random_batch(clips: int = 4, segments: int = 6, seed: int = 1, visual: tuple[int, ...] = VISUAL) -> tuple[Batch, VideoTargets]:
    """Noise, and up to three classes a clip."""
    generator = torch.Generator().manual_seed(seed)
    streams = [torch.randn(clips, segments, *shape, generator=generator) for shape in (visual, AUDIO, MOTION)]
    labels = (torch.rand(clips, CLASSES, generator=generator) < 0.5).float()
    labels[0, 0] = 1
    batch = Batch(streams[0], streams[1], torch.ones(clips, segments, dtype=torch.bool), {"motion": streams[2]})
    return batch, VideoTargets(torch.cat([labels, 1 - labels.amax(1, keepdim=True)], dim=1))


def losses(method: Method, batch: Batch, targets: VideoTargets, progress: Progress = LATE, seed: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return method.losses(batch, targets, progress)


def assert_same(first: ParsingScores, second: ParsingScores, **tolerance) -> None:
    for name in vars(first):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), **(tolerance or {"atol": 1e-5, "rtol": 1e-4}))


def test_every_parsing_method_is_here():
    assert set(NARROW) == set(VARIANTS) == {name for name in METHODS.names() if "avvp" in METHODS.get(name).tasks}


@every_case
@pytest.mark.parametrize("visual", [(8, 12), (3, 3, 12), (12,)], ids=str)
def test_shapes_and_ranges(name, config, visual):
    """Frames of a segment, a map, or one vector: any feature set works."""
    method = build(name, config, visual=visual).eval()
    batch, targets = random_batch(visual=visual)
    with torch.no_grad():
        scores, terms = method.predict(batch), losses(method, batch, targets)
    assert scores.audio.shape == scores.visual.shape == (4, 6, CLASSES)
    assert scores.clip_audio.shape == scores.clip_visual.shape == (4, CLASSES)
    assert scores.thresholds.shape == (4, 2, 2, CLASSES)
    assert all((part >= 0).all() and (part <= 1).all() for part in (scores.audio, scores.visual, scores.thresholds))
    assert avvp.decide(scores, batch.mask).shape == (4, 2, 6, CLASSES)
    assert all(term.shape == () and term.isfinite() for term in terms.values())


@pytest.mark.processor
@every_case
def test_every_parameter_gets_a_gradient(name, config):
    method = build(name, config).double()
    batch, targets = random_batch()
    targets = VideoTargets(targets.labels.double())
    for progress in (EARLY, LATE):
        losses(method, doubled(batch), targets, progress)["total"].backward()
    assert_all_but_flat(method, {key: parameter.grad for key, parameter in method.named_parameters() if parameter.grad is not None})


def padded(fill: float) -> tuple[Batch, VideoTargets]:
    """Clips of 6, 4, 1 and no segments, ``fill`` behind their ends."""
    batch, targets = random_batch()
    mask = torch.arange(6) < torch.tensor([6, 4, 1, 0])[:, None]
    filled = [
        torch.where(mask.reshape(4, 6, *[1] * (stream.ndim - 2)), stream, torch.tensor(fill))
        for stream in (batch.visual, batch.audio, batch.others["motion"])
    ]
    return Batch(filled[0], filled[1], mask, {"motion": filled[2]}), targets


@pytest.mark.processor
@every_case
@pytest.mark.parametrize("fill", [7.0, float("nan")])
def test_values_in_the_padding_change_nothing(name, config, fill):
    method = build(name, config).train()
    results = []
    for batch, targets in (padded(0.0), padded(fill)):
        method.zero_grad()
        terms = losses(method, batch, targets)
        terms["total"].backward()
        results.append((terms, [parameter.grad.clone() for parameter in method.parameters()]))
    for term in results[0][0]:
        torch.testing.assert_close(results[0][0][term], results[1][0][term])
    for first, second in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(first, second)
        assert first.isfinite().all()


@pytest.mark.processor
@every_case
def test_a_clip_is_scored_alone_and_cut_short_as_in_a_batch(name, config):
    method = build(name, config).eval()
    batch, _ = padded(7.0)
    with torch.no_grad():
        together = method.predict(batch)
        for clip, length in enumerate((6, 4, 1)):
            motion = {"motion": batch.others["motion"][clip : clip + 1, :length]}
            short = Batch(*(part[clip : clip + 1, :length] for part in (batch.visual, batch.audio, batch.mask)), motion)
            alone = method.predict(short)
            assert_same(
                alone,
                ParsingScores(
                    *(getattr(together, part)[clip : clip + 1, :length] for part in ("audio", "visual")),
                    *(getattr(together, part)[clip : clip + 1] for part in ("clip_audio", "clip_visual", "thresholds")),
                ),
            )


@every_case
def test_a_clip_of_padding_alone_has_no_weight(name, config):
    method = build(name, config).eval()
    batch, targets = padded(0.0)
    changed = VideoTargets(torch.cat([targets.labels[:3], 1 - targets.labels[3:]]))
    with torch.no_grad():
        assert losses(method, batch, targets) == losses(method, batch, changed)


@every_case
def test_a_saved_method_predicts_as_it_did(name, config, tmp_path):
    method, (batch, targets) = build(name, config), random_batch()
    losses(method, batch, targets)
    safetensors.torch.save_file(method.eval().state_dict(), tmp_path / "weights.safetensors")
    restored = build(name, config, seed=9).eval()
    restored.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"), strict=True)
    with torch.no_grad():
        assert_same(method.predict(batch), restored.predict(batch), atol=0, rtol=0)


@every_case
@pytest.mark.fault(32)
def test_odd_batches(name, config):
    """One clip, one segment, no class anywhere: finite losses and gradients."""
    method = build(name, config).train()
    batch, targets = random_batch()
    nothing = VideoTargets(torch.eye(CLASSES + 1)[[CLASSES] * 4])
    for features, told in (random_batch(1), random_batch(3, segments=1), (batch, nothing), (batch, targets)):
        for progress in (EARLY, LATE):
            method.zero_grad()
            terms = losses(method, features, told, progress)
            terms["total"].backward()
            assert all(term.isfinite() for term in terms.values())
            assert all(parameter.grad.isfinite().all() for parameter in method.parameters() if parameter.grad is not None)


@pytest.mark.processor
@every_case
def test_half_precision(name, config):
    method = build(name, config).train()
    batch, targets = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = losses(method, batch, targets)
        terms["total"].backward()
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    method.eval()
    half = Batch(batch.visual.half(), batch.audio.half(), batch.mask, {"motion": batch.others["motion"].half()})
    with torch.no_grad():
        exact = method.predict(batch)
        assert_same(method.predict(half), exact, atol=0.01, rtol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_same(method.predict(batch), exact, atol=0.05, rtol=0)


@pytest.mark.processor
@every_case
def test_learns_the_labels_of_sixteen_random_clips_by_heart(name, config):
    method = build(name, {**config, **dict.fromkeys(DROPOUTS[name], 0.0)}).train()
    for buffer in method.buffers():  # all labels stay
        buffer.zero_()
    batch, targets = random_batch(16, segments=4)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    right = 0.0
    for step in range(600):
        optimizer.zero_grad()
        method.losses(batch, targets, Progress(step, 600))["total"].backward()
        optimizer.step()
        if step % 25 == 24:  # the number of steps depends on rounding
            with torch.no_grad():
                scores = method.eval().predict(batch)
            said = torch.stack([scores.clip_audio, scores.clip_visual], dim=1) >= scores.thresholds[:, :, 1]
            right = (said == targets.labels[:, None, :CLASSES].bool()).float().mean().item()
            if right >= 0.95:
                break
            method.train()
    assert right >= 0.95


@every_case
def test_labels_of_segments_are_refused(name, config):
    """A parsing method refuses segment labels as targets."""
    method, (batch, _) = build(name, config), random_batch()
    tables = torch.zeros(4, 6, CLASSES, dtype=torch.bool)
    for wrong in (ParsingTargets(tables, tables, tables[:, 0]), AvelTargets(torch.zeros(4, 6).long(), torch.zeros(4).long())):
        with pytest.raises(TypeError, match="train on"):
            method.losses(batch, wrong, LATE)


@pytest.mark.parametrize("name", NARROW)
def test_features_and_settings_that_do_not_fit_are_refused(name):
    method, (batch, _) = build(name, NARROW[name]), random_batch()
    with pytest.raises(PipelineError, match=r"motion.*\(5,\)"):
        method.predict(Batch(batch.visual, batch.audio, batch.mask))
    with pytest.raises(PipelineError, match=r"visual.*\(3, 6\).*\(2, 6\)"):
        method.predict(random_batch(visual=(3, 6))[0])
    with pytest.raises(PipelineError, match=f"{name}.*motion.*visual, audio, flow"):
        create(name, visual_shape=VISUAL, audio_shape=AUDIO, num_classes=CLASSES, other_shapes={"flow": (3,)})
    with pytest.raises(PipelineError, match=r"motion.*\(2, 5\)"):
        create(name, visual_shape=VISUAL, audio_shape=AUDIO, num_classes=CLASSES, other_shapes={"motion": (2, 5)})
    with pytest.raises(ValidationError, match="no_such_setting"):
        build(name, {"no_such_setting": 1})
