"""The contract of every registered method of any task, in each of its main variants."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from contract import (
    AUDIO,
    CLASSES,
    LATE,
    LENGTHS,
    SMALL,
    VISUAL,
    all_finite,
    assert_answers,
    assert_close,
    assert_shapes,
    build,
    build_again,
    cases,
    changed,
    learned,
    losses,
    names,
    nothing,
    padded,
    phases,
    random_batch,
    segments_of,
    task_of,
)
from flat_gradients import FLAT, assert_all_but_flat, doubled, rounding
from pydantic import ValidationError

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods import METHODS, Progress, create
from pipeline.registry import UnknownName

every_case = pytest.mark.parametrize(("name", "config"), cases())
every_method = pytest.mark.parametrize("name", names())
parsing_methods = pytest.mark.parametrize("name", names("avvp"))


def test_every_registered_method_is_here():
    assert set(SMALL) == set(METHODS.names())


@every_case
def test_shapes_and_ranges(name, config):
    """A map, one vector, and, for parsing, frames of a segment: any feature set will do."""
    for visual in (VISUAL, (6,), *([(2, 6)] if task_of(name) == "avvp" else [])):
        assert_answers_have_their_shapes(name, config, visual, AUDIO)


@pytest.mark.parametrize("name", [name for name in SMALL if task_of(name) != "dave"])
def test_shapes_and_ranges_at_published_widths(name):
    """The method as published, on maps of VGG19 and the vector of VGGish; detectors are too large and take no maps."""
    config = {"pseudo_labels": None} if "pseudo_labels" in SMALL[name].settings else {}
    assert_answers_have_their_shapes(name, config, (7, 7, 512), (128,))


def assert_answers_have_their_shapes(name, config, visual, audio):
    method = (build_again(name, config) if visual == VISUAL else build(name, config, visual=visual, audio=audio)).eval()
    batch, truth = random_batch(2, segments_of(name, config, 4), visual=visual, audio=audio)
    with torch.no_grad():
        scores, terms = method.predict(batch), losses(method, batch, truth)
    assert_shapes(method, scores, batch)
    assert "total" in terms
    assert all(term.shape == () and term.isfinite() for term in terms.values())


@pytest.mark.processor
@every_case
def test_every_parameter_gets_a_gradient(name, config):
    method = build_again(name, config).double()
    reached: dict[str, torch.Tensor] = {}
    for seed, progress in itertools.product(range(3), phases(method)):
        batch, truth = random_batch(seed=seed)
        method.zero_grad()
        losses(method, doubled(batch), truth.double(), progress)["total"].backward()
        for parameter, weight in method.named_parameters():
            if weight.grad is not None:
                reached[parameter] = torch.maximum(reached.get(parameter, weight.grad).abs(), weight.grad.abs())
        if progress is LATE and len(reached) == len(list(method.parameters())) and all(name.endswith(FLAT) for name in rounding(reached)):
            break
    assert_all_but_flat(method, reached)


def cuts_short(name: str, config: dict) -> bool:
    """Whether padding is the same as the end of the frame; the released detector has a padded step on every level, MGN one T."""
    return name != "mgn" and (task_of(name) != "dave" or config.get("variant") != "released")


@pytest.mark.processor
@every_case
@pytest.mark.fault(6)
def test_a_clip_is_scored_alone_and_cut_short_as_in_a_batch(name, config):
    method = build_again(name, config).eval()
    batch, _ = padded(7.0)
    with torch.no_grad():
        together = method.predict(batch)
        for clip, length in enumerate(LENGTHS[:3]):
            last = length if cuts_short(name, config) else batch.mask.shape[1]
            streams = [stream[clip : clip + 1, :last] for stream in (batch.visual, batch.audio, batch.mask, batch.others["motion"])]
            alone = method.predict(Batch(*streams[:3], {"motion": streams[3]}))
            assert_answers(together, alone, {clip: 0}, {clip: length})


@pytest.mark.processor
@every_case
@pytest.mark.fault(3, 6)
def test_values_in_the_padding_change_nothing(name, config):
    def outcome(*fills: float):
        method = build_again(name, config).train()  # anew: losses may move a mean that is kept in a buffer
        batch, truth = padded(*fills)
        terms = losses(method, batch, truth)
        terms["total"].backward()
        gradients = {key: weight.grad.clone() for key, weight in method.named_parameters() if weight.grad is not None}
        with torch.no_grad():
            return terms, gradients, method.eval().predict(batch)

    terms, gradients, scores = outcome(0.0)
    assert all_finite(gradients.values())
    others = outcome(7.0, float("nan"))
    for expected, found in zip((terms, gradients), others[:2], strict=True):
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert_close(found[key], value, key)
    assert_answers(scores, others[2], dict(enumerate(range(3))), dict(enumerate(LENGTHS[:3])), atol=1e-5, rtol=1.3e-6)


@every_case
def test_a_clip_of_padding_alone_has_no_weight(name, config):
    method = build_again(name, config).eval()
    batch, truth = padded(0.0)
    for progress in phases(method):
        with torch.no_grad():
            one, other = losses(method, batch, truth, progress), losses(method, batch, changed(truth, 3), progress)
        assert one["total"].isfinite()
        assert one == other
    with torch.no_grad():
        assert method.predict(batch).finite(batch.mask).all()


@pytest.mark.processor
@every_case
def test_the_same_seed_trains_the_same_weights(name, config):
    def trained():
        method = build(name, config, seed=3).train()
        optimizer = torch.optim.Adam(method.parameters(), 1e-2, fused=True)
        batch, truth = random_batch()
        method.losses(batch, truth.told(method), LATE)["total"].backward()
        optimizer.step()
        return method.state_dict()

    first, second = trained(), trained()
    for key in first:
        assert torch.equal(first[key], second[key]), key


@every_case
def test_a_saved_method_predicts_as_it_did(name, config):
    """After losses of every phase, whose batches may leave something in buffers."""
    method, restored = build_again(name, config), build(name, config, seed=9).eval()
    batch, truth = random_batch()
    for progress in phases(method):
        losses(method.train(), batch, truth, progress)
        method.eval()
        restored.load_state_dict(safetensors.torch.load(safetensors.torch.save(method.state_dict())), strict=True)
        with torch.no_grad():
            assert_answers(method.predict(batch), restored.predict(batch), {0: 0, 3: 3}, {0: 6, 3: 6}, atol=0, rtol=0)


@every_case
@pytest.mark.fault(32)
def test_odd_batches(name, config):
    """One clip, one segment, no event anywhere: finite losses and gradients."""
    method = build_again(name, config).train()
    for features, truth in (random_batch(1), random_batch(3, segments=segments_of(name, config, 1)), (random_batch()[0], nothing())):
        for progress in phases(method):
            method.zero_grad()
            terms = losses(method, features, truth, progress)
            assert all(term.isfinite() for term in terms.values())
            terms["total"].backward()
            assert all_finite(weight.grad for weight in method.parameters() if weight.grad is not None)


@pytest.mark.processor
@every_case
def test_half_precision(name, config):
    """Training and prediction under bfloat16 autocast; float16 features, as the store holds them."""
    method = build_again(name, config).train()
    batch, truth = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = losses(method, batch, truth)
        terms["total"].backward()
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    assert all_finite(weight.grad for weight in method.parameters() if weight.grad is not None)
    method.eval()
    half = Batch(batch.visual.half(), batch.audio.half(), batch.mask, {"motion": batch.others["motion"].half()})
    every, lengths = {clip: clip for clip in range(4)}, dict.fromkeys(range(4), 6)
    with torch.no_grad():
        exact = method.predict(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = method.predict(batch)
        assert_answers(exact, method.predict(half), every, lengths, rough=True, atol=0.01 * spread(exact), rtol=0)
    assert_answers(exact, rough, every, lengths, rough=True, atol=0.05 * spread(exact), rtol=0)


def spread(scores) -> float:
    """The size of the scores where they are no probabilities: cross-modality localization's are sums over windows."""
    tables = list(scores.tensors().values())
    return max(1.0, *(float(table.abs().max()) for table in tables))


# The slowest test: of localization every method as it is by default, and those variants whose loss or inputs differ. Of
# detectors test_unav.py has one.
VARIANTS_THAT_LEARN = {
    "avel-modality=audio", "avel-modality=visual", "avel-fusion=dmrn", "avel-variant=released", "avel-supervision=weak",
    "cace_net-variant=paper", "cace_net-guidance=none", "cace_net-temporal=snn", "cace_net-supervision=weak", "ccln-supervision=weak",
    "cmbs-supervision=weak", "cmbs-supervision=weak-video_loss=soft_margin", "cmran-supervision=weak", "psp-supervision=weak",
}  # fmt: skip
LEARNS = [
    case
    for case in cases()
    if task_of(case.values[0]) not in ("avel", "dave") or (task_of(case.values[0]) == "avel" and case.id == case.values[0])
    or case.id in VARIANTS_THAT_LEARN
]  # fmt: skip


@pytest.mark.processor
@pytest.mark.parametrize(("name", "config"), LEARNS)
def test_learns_random_clips_by_heart(name, config):
    """Reach 95 % of the training labels without dropout (one answer to all gives at most 50 %).

    Sixteen clips of parsing, six of the other tasks. The number of steps depends on rounding; most need 10 to 25.
    """
    method = build(name, {**config, **dict.fromkeys(SMALL[name].dropouts, 0.0)}).train()
    if task_of(name) == "avvp":
        for name_of, buffer in method.named_buffers():  # all labels stay
            if "noise_" in name_of:
                buffer.zero_()
    clips = 16 if task_of(name) == "avvp" else 6
    batch, truth = random_batch(clips, segments=segments_of(name, config, 3), seed=11)
    told = truth.told(method)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2 if name in ("mgn", "uwav") else 2e-2, fused=True)  # the two stray at the greater
    right = 0.0
    for step in range(600):
        optimizer.zero_grad()
        method.losses(batch, told, Progress(step, 600))["total"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0, foreach=True)
        optimizer.step()
        if step % 5 == 4 and (right := learned(method, batch, truth)) >= 95:
            break
    assert right >= 95


@every_case
def test_labels_of_another_supervision_are_refused(name, config):
    """A weakly supervised method refuses segment labels, and every method the targets of another task."""
    method = build_again(name, config)
    batch, truth = random_batch()
    wrong = [told for told in truth if type(told) is not type(truth.told(method))]
    assert len({type(told) for told in wrong}) == 5
    for told in wrong:
        with pytest.raises(TypeError, match="train on"):
            method.losses(batch, told, LATE)


@every_method
def test_features_of_another_shape_are_refused(name):
    method, (batch, _) = build_again(name, SMALL[name].settings), random_batch()
    with pytest.raises(PipelineError, match=r"visual.*\(2, 2, 6\).*\(2, 3, 6\)"):
        method.predict(Batch(batch.visual[:, :, :, :2], batch.audio, batch.mask, batch.others))
    with pytest.raises(PipelineError, match=r"audio.*\(8,\).*\(7,\)"):
        method.predict(Batch(batch.visual, torch.zeros(4, 6, 8), batch.mask, batch.others))


@parsing_methods
def test_a_stream_that_is_not_there_or_of_another_shape_is_refused(name):
    method, (batch, _) = build_again(name, SMALL[name].settings), random_batch()
    with pytest.raises(PipelineError, match=r"motion.*\(5,\)"):
        method.predict(Batch(batch.visual, batch.audio, batch.mask))
    shapes = {"visual_shape": (2, 3, 6), "audio_shape": (7,), "num_classes": CLASSES}
    with pytest.raises(PipelineError, match=f"{name}.*motion.*visual, audio, flow"):
        create(name, **shapes, other_shapes={"flow": (3,)})
    with pytest.raises(PipelineError, match=r"motion.*\(2, 5\)"):
        create(name, **shapes, other_shapes={"motion": (2, 5)})


@every_method
def test_settings_are_checked(name):
    with pytest.raises(ValidationError, match="no_such_setting"):
        build(name, {"no_such_setting": 1})
    with pytest.raises(ValidationError, match="learning_rate"):
        build(name, {"recipe": {"learning_rate": 0}})


@every_method
def test_part_of_a_recipe_keeps_the_rest_of_the_papers(name):
    default = METHODS.get(name).Config().recipe
    changed = METHODS.get(name).Config(recipe={"epochs": 3}).recipe
    assert changed.model_dump() == {**default.model_dump(), "epochs": 3}


def test_unknown_method():
    with pytest.raises(UnknownName, match="'cace_net'"):
        build("cacenet", {})


@every_case
def test_between_positions_of_one_phase_the_losses_do_not_differ(name, config):
    """A GPU repeats the step of a phase, so nothing else may come from the progress."""
    method, (batch, truth) = build_again(name, config).train(), random_batch()
    of_phase: dict[object, list[Progress]] = {}
    for epoch, number in itertools.product((0, 1, 2, 5, 9, 10, 79), (0, 1, 2, 3)):
        progress = Progress(epoch, 80, number)
        of_phase.setdefault(method.phase(progress), []).append(progress)
    with torch.no_grad():
        for several in of_phase.values():
            first, last = (losses(method, batch, truth, progress) for progress in (several[0], several[-1]))
            assert first == last


@every_method
def test_a_batch_known_to_be_full_is_scored_and_learned_like_any_other(name):
    """To the last bit: all that is left out are questions to the mask."""
    method, (batch, truth) = build_again(name, SMALL[name].settings), random_batch()
    told = replace(batch, full=True)
    assert losses(method, batch, truth) == losses(method, told, truth)
    method.eval()
    with torch.no_grad():
        first, second = method.predict(batch).tensors(), method.predict(told).tensors()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
