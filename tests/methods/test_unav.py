"""The UnAV detector: its size, what may and may not change an answer, its losses, and the part of a clip that a step sees."""

import numpy as np
import pytest
import torch
from contract import CLASSES, DENSE, LATE, build, random_batch, wake
from pydantic import ValidationError

from pipeline.batch import Batch
from pipeline.methods import create
from pipeline.methods.cace_net_dense.method import CaceNetDenseConfig
from pipeline.methods.unav.config import UnavConfig
from pipeline.methods.unav.crop import Cropped, crop
from pipeline.methods.unav.method import Unav
from pipeline.methods.unav.network import places
from pipeline.tasks import dave
from pipeline.tasks.dave import EventTargets
from pipeline.time_grid import TimeGrid

SMALL = {**DENSE, "levels": 4}


@pytest.mark.parametrize(("settings", "count"), [({}, 139_544_114), ({"dependency_width": 0}, 60_696_882)])
def test_parameters_at_released_widths(settings, count):
    with torch.device("meta"):
        method = Unav(UnavConfig(variant="released", motion="motion", **settings), (1024,), (128,), 100, {"motion": (1024,)})
    assert sum(weight.numel() for weight in method.parameters()) == count


def detector(variant="ours", name="unav", **settings):
    torch.manual_seed(0)
    method = create(name, visual_shape=(6,), audio_shape=(7,), num_classes=CLASSES, **{**SMALL, "variant": variant, **settings})
    wake(method, biases=True)
    return method.double().eval()


def clips(steps, lengths, seed=0):
    """Clips of these lengths on a frame of ``steps``; the first is the same whatever the others are."""
    generator = torch.Generator().manual_seed(seed)
    visual, audio = (torch.randn(len(lengths), 80, width, generator=generator, dtype=torch.float64)[:, :steps] for width in (6, 7))
    return Batch(visual, audio, torch.arange(steps) < torch.tensor(lengths)[:, None])


def heard(method, batch, clip=0):
    """Logits and distances of a clip's valid points, level by level."""
    with torch.no_grad():
        levels = method.levels(*method.streams(batch))
        found = method.found(levels)
    valid = torch.cat([level.mask for level in levels], dim=1)[clip]
    return torch.cat([found.logits[clip, valid], found.sides[clip, valid].flatten(1)], dim=1)


def test_padding_of_any_length_and_other_clips_change_nothing():
    method = detector()
    for length in range(1, 32):
        alone = heard(method, clips(length, [length]))
        assert alone.isfinite().all()
        torch.testing.assert_close(heard(method, clips(length + 1 + length % 9, [length])), alone, atol=1e-10, rtol=0)
    batch = clips(40, [21, 40, 1])
    for clip in range(3):
        torch.testing.assert_close(heard(method, batch, clip), heard(method, batch[clip : clip + 1]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("heads", ["regression", "classification"])
def test_features_enhanced_by_the_contrast_leave_padding_empty(heads):
    method = detector(name="cace_net_dense", bece_heads=heads)
    method.contrast_active.fill_(True)
    for length in (1, 6, 16):
        padded = heard(method, clips(24, [length]))
        torch.testing.assert_close(padded, heard(method, clips(length, [length])), atol=1e-10, rtol=0)


def test_released_answers_alike_while_every_level_keeps_a_padded_step():
    method = detector("released")
    near, far = (heard(method, clips(steps, [16])) for steps in (24, 40))  # four levels: 8 steps are one of the last
    torch.testing.assert_close(near, far, atol=1e-10, rtol=0)
    assert (heard(method, clips(16, [16])) - near).abs().max() > 1e-3


def test_released_places_are_stretched_and_ours_go_on():
    like = torch.zeros(1)
    ours, released = (places(300, 8, like, stretched) for stretched in (False, True))
    torch.testing.assert_close(ours[:224], places(224, 8, like, True))
    torch.testing.assert_close(ours[250, 2], torch.tensor(np.sin(250 / 10_000 ** (2 / 8)) / 8**0.5).float(), atol=1e-6, rtol=0)
    assert released[0, 1] == pytest.approx(8**-0.5)
    assert (ours[250] - released[250]).abs().max() > 0.05
    torch.testing.assert_close(released[-1], places(224, 8, like, True)[-1])


def test_a_prediction_is_in_seconds_of_its_grid_and_ends_with_the_clip():
    """Steps of 0.32 s from 0.48 s on: the same answer in steps, cut off at 0 and at the clip's length."""
    method, batch = detector().float(), clips(24, [24, 9])
    batch = Batch(batch.visual.float(), batch.audio.float(), batch.mask)
    grid = TimeGrid(0.32, 0.48)
    with torch.no_grad():
        plain = method.predict(batch)
        there = method.predict(Batch(batch.visual, batch.audio, batch.mask, grid=grid, seconds=torch.tensor([5.0, 3.4])))
        unknown = method.predict(Batch(batch.visual, batch.audio, batch.mask, grid=grid))
    assert (plain.labels == there.labels).all()
    kept = plain.labels[0] >= 0
    inside = (plain.spans[0] > 0).all(dim=1) & (there.spans[0] > 0).all(dim=1) & (there.spans[0] < 5).all(dim=1) & kept
    assert inside.sum() > 20
    torch.testing.assert_close(there.spans[0, inside], (plain.spans[0, inside] - 0.5) * 0.32 + 0.48)
    assert there.spans[0].max() == 5.0
    assert there.spans[1].max() == pytest.approx(3.4)
    assert unknown.spans[1].max() == pytest.approx(8 * 0.32 + 0.96)  # the last window's end


def test_the_losses_are_divided_by_a_running_number_of_points():
    method = build("unav", {**DENSE, "dependency_width": 0, "drop_path": 0.0, "crop": 1.0}).train()
    batch, truth = random_batch()
    first = method.losses(batch, truth.dense, LATE)
    normaliser = method.normaliser.item()
    assert 225 < normaliser < 228  # 0.9 x 250 + 0.1 x the points of four short events
    second = method.losses(batch, truth.dense, LATE)
    assert second["classes"].item() == pytest.approx(first["classes"].item() * normaliser / method.normaliser.item())
    before = method.normaliser.item()
    method.eval()
    method.losses(batch, truth.dense, LATE)
    assert method.normaliser.item() == before
    assert {"normaliser", "threshold"} <= method.state_dict().keys()
    absent = EventTargets(truth.dense.spans, torch.full_like(truth.dense.labels, -1), truth.dense.seconds)
    assert method.losses(batch, absent, LATE)["spans"] == 0


def test_23_events_of_a_clip():
    method, (batch, _) = build("unav", DENSE).train(), random_batch(2, 6)
    start = torch.linspace(0, 5, 23).repeat(2, 1)
    truth = EventTargets(torch.stack([start, start + 1.3], dim=2), torch.arange(23).repeat(2, 1) % CLASSES, torch.tensor([6.0, 6.0]))
    terms = method.losses(batch, truth, LATE)
    assert all(term.isfinite() for term in terms.values())
    assert terms["spans"] > 0


def test_a_class_without_events_keeps_its_first_probability():
    method = build("unav", DENSE)
    torch.testing.assert_close(method.detector.heads.classes.bias.sigmoid(), torch.full((CLASSES,), 0.01))


def whole(lengths, spans, labels, steps=20):
    place = torch.arange(steps, dtype=torch.float32).repeat(len(lengths), 1)
    mask = place < torch.tensor(lengths)[:, None]
    stream = torch.where(mask, place, 99.0).unsqueeze(-1)
    return Cropped(stream, stream.clone(), mask, torch.tensor(spans), torch.tensor(labels))


def test_a_part_of_a_clip_keeps_its_events_where_they_are():
    """A stream that holds the number of its step tells which part was taken."""
    given = whole([20, 7, 1], [[[3.2, 8.8], [15.0, 19.5]], [[0.5, 5.0], [0, 0]], [[-0.4, 0.4], [0, 0]]], [[0, 1], [2, -1], [1, -1]])
    torch.manual_seed(0)
    lengths, starts = set(), set()
    for _ in range(60):
        part = crop(given, 0.8)
        for clip, low in ((0, 16), (1, 6), (2, 1)):
            taken = part.visual[clip, part.mask[clip], 0]
            start, length = int(taken[0]), len(taken)
            assert low <= length <= given.mask[clip].sum()
            assert taken.tolist() == list(range(start, start + length))
            assert (part.visual[clip, ~part.mask[clip]] == 0).all()
            assert torch.equal(part.visual, part.audio)
            cut = length < given.mask[clip].sum()
            for event in range(2):
                (a, b), label = given.spans[clip, event].tolist(), int(given.labels[clip, event])
                inside = max(0.0, min(b, start + length) - max(a, start))
                kept = label >= 0 and (not cut or inside >= (b - a) / 2)
                assert part.labels[clip, event] == (label if kept else -1)
                if kept:
                    expected = [max(a - start, 0), min(b - start, length)] if cut else [a, b]
                    assert part.spans[clip, event].tolist() == pytest.approx(expected, abs=1e-5)
            if clip == 0:
                lengths.add(length)
                starts.add(start)
    assert lengths == {16, 17, 18, 19, 20}
    assert len(starts) >= 4


def test_a_clip_without_events_is_left_whole():
    given = whole([20], [[[0.0, 0.0]]], [[-1]])
    assert torch.equal(crop(given, 0.5).mask, given.mask)


def test_released_settings():
    """They may be changed one by one, and hold for the method built on this one."""
    released = UnavConfig(variant="released", recipe={"epochs": 3})
    assert (released.dependency_width, released.recipe.ema_warmup, released.recipe.epochs) == (128, False, 3)
    assert UnavConfig(variant="released", dependency_width=0).dependency_width == 0
    assert CaceNetDenseConfig(variant="released").dependency_width == 128
    assert UnavConfig().recipe.ema_warmup
    with pytest.raises(ValidationError, match="multiple of heads"):
        UnavConfig(width=10, heads=4)


def test_sixteen_videos_are_learned_by_heart():
    """One to three events of any class at any time, in noise; mean average precision at an overlap of 0.5."""
    rng, steps = np.random.default_rng(0), 16
    spans, labels = np.zeros((16, 3, 2), np.float32), np.full((16, 3), -1)
    for video in range(16):
        for event in range(rng.integers(1, 4)):
            start = rng.uniform(0, 13)
            spans[video, event], labels[video, event] = (start, start + rng.uniform(1.5, 16 - start)), rng.integers(CLASSES)
    truth = EventTargets(torch.from_numpy(spans), torch.from_numpy(labels), torch.full((16,), float(steps)))
    torch.manual_seed(0)
    batch = Batch(torch.randn(16, steps, 6), torch.randn(16, steps, 7), torch.ones(16, steps, dtype=torch.bool))
    settings = {**DENSE, "stem": 0, "levels": 3, "dependency_width": 0, "drop_path": 0.0, "crop": 1.0}
    method = create("unav", visual_shape=(6,), audio_shape=(7,), num_classes=CLASSES, **settings).train()
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    found = 0.0
    for step in range(300):
        optimizer.zero_grad()
        method.losses(batch, truth, LATE)["total"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 19:
            with torch.no_grad():
                scores = method.eval().predict(batch)
            found = dave.score(dave.decide(scores, batch.mask), truth, batch.mask, CLASSES, 1.0)["mAP@0.5"]
            method.train()
            if found > 95:
                break
    assert found > 95
