"""Segment pseudo-labels and selected or given thresholds, for any parsing method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from contract import CLASSES, LATE, SMALL, build_again, cases, losses, names, padded, random_batch
from pydantic import ValidationError

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods import METHODS
from pipeline.methods.shared.anchor import Anchored, AnchorMethod
from pipeline.methods.shared.parsing import ParsingMethod
from pipeline.tasks import avvp
from pipeline.tasks.avvp import ParsingScores, ParsingTargets

GUESSED = {"pseudo_labels": {"audio": "audio_labels", "visual": "visual_labels"}}
FULL, VALOR = {"clip_modality_losses": True}, {"clip_modality_losses": False, "segment_weight": 2.5}
METHODS_OF_PARSING = names("avvp")
every_case = pytest.mark.parametrize(("name", "config"), cases("avvp"))


def with_labels(batch: Batch, seed: int = 5) -> Batch:
    """Add segment pseudo-labels to the batch; their padding is not 0."""
    generator = torch.Generator().manual_seed(seed)
    labels = [(torch.rand(*batch.mask.shape, CLASSES, generator=generator) < 0.4).float() for _ in range(2)]
    for table in labels:
        table[~batch.mask] = float("nan")
    return Batch(batch.visual, batch.audio, batch.mask, {**batch.others, "audio_labels": labels[0], "visual_labels": labels[1]})


def eval_mode(name: str, config: dict, **more) -> ParsingMethod:
    method = build_again(name, {**config, **more}).eval()
    for buffer in method.buffers():  # no label is removed, no threshold selected
        buffer.fill_(0.0)
    if more.get("thresholds") == "selected":
        method.selected_thresholds.fill_(float("nan"))
    return method


def in_training(method: ParsingMethod, batch: Batch) -> Anchored | ParsingScores:
    """Segment probabilities of the training pass, which CMPAE fuses differently from prediction."""
    method = getattr(method, "anchor", method)
    return method.anchor_forward(method.inputs(batch), method.crosses) if isinstance(method, AnchorMethod) else method.predict(batch)


@every_case
def test_guessed_labels_of_segments_enter_the_loss(name, config):
    """Their terms are computed from the segment probabilities and added to the total with weight 1."""
    method = eval_mode(name, config, **GUESSED).double()
    batch, truth = padded(0.0)
    batch = Batch(batch.visual.double(), batch.audio.double(), batch.mask, {"motion": batch.others["motion"].double()})
    labelled = with_labels(batch)
    with torch.no_grad():
        terms, scores = losses(method, labelled, truth), in_training(method, batch)
    for modality, stream in (("audio", "audio_labels"), ("visual", "visual_labels")):
        expected = []
        for clip in range(4):
            for t in range(int(batch.mask[clip].sum())):
                for c in range(CLASSES):
                    p, y = getattr(scores, modality)[clip, t, c].item(), labelled.others[stream][clip, t, c].item()
                    p = min(p, 1 - 1e-7)  # as the loss clamps it; MGN answers 1 where it means more
                    expected.append(-np.log(p) if y else -np.log(1 - p))
        assert terms[f"{modality}_segments"].item() == pytest.approx(np.mean(expected), abs=1e-9)
    nothing = {"audio_labels": torch.zeros(4, 6, CLASSES), "visual_labels": torch.zeros(4, 6, CLASSES)}
    with torch.no_grad():
        silent = losses(method, Batch(batch.visual, batch.audio, batch.mask, {**batch.others, **nothing}), truth)
    rest = [part["total"] - part["audio_segments"] - part["visual_segments"] for part in (terms, silent)]
    assert rest[0] != rest[1], "the targets of the clips are the largest of their segments"


@every_case
def test_the_targets_of_a_clip_are_the_largest_of_its_segments(name, config):
    """Pseudo-labels that contain the clip's labels in one segment give the same clip terms as no pseudo-labels."""
    batch, truth = random_batch()
    labels = truth.several.labels[:, :CLASSES]
    guessed = torch.zeros(4, 6, CLASSES)
    guessed[:, 2] = labels
    others = {**batch.others, "audio_labels": guessed, "visual_labels": guessed}
    plain, method = eval_mode(name, config), eval_mode(name, config, **GUESSED)
    with torch.no_grad():
        expected = losses(plain, batch, truth)
        found = losses(method, Batch(batch.visual, batch.audio, batch.mask, others), truth)
    added, gone = (one.keys() - other.keys() for one, other in ((found, expected), (expected, found)))
    assert added >= {"audio_segments", "visual_segments"}
    assert not gone or name == "leap"  # which has terms in their place
    for term in expected.keys() - gone - {"total"}:
        torch.testing.assert_close(found[term], expected[term])
    total = expected["total"] + sum(found[term] for term in added) - sum(expected[term] for term in gone)
    torch.testing.assert_close(found["total"], total)


@pytest.mark.parametrize("name", METHODS_OF_PARSING)
def test_losses_of_modalities_can_be_left_out_and_those_of_segments_weighed(name):
    """VALOR's rule, for any method: of the clip, only the probability of either modality."""
    plain, method = (eval_mode(name, SMALL[name].settings, **GUESSED, **more) for more in (FULL, VALOR))
    batch, truth = random_batch()
    with torch.no_grad():
        expected, found = (losses(each, with_labels(batch), truth) for each in (plain, method))
    weights = getattr(plain, "loss_weights", {})
    if name == "coleaf":
        weights = plain._anchor_weights()
    total = expected["total"] - sum(weights.get(modality, 1.0) * expected[modality] for modality in ("audio", "visual"))
    assert expected.keys() - found.keys() == {"audio", "visual"}
    torch.testing.assert_close(found["total"], total + 1.5 * (expected["audio_segments"] + expected["visual_segments"]))


@every_case
def test_guessed_labels_reach_no_prediction(name, config):
    method = eval_mode(name, config, **GUESSED)
    batch, _ = random_batch()
    with torch.no_grad():
        alone, told, twisted = method.predict(batch), method.predict(with_labels(batch)), method.predict(with_labels(batch, seed=6))
    for part, value in alone.tensors().items():
        assert torch.equal(value, told.tensors()[part])
        assert torch.equal(value, twisted.tensors()[part])


@every_case
def test_guessed_labels_that_are_not_there_are_an_error(name, config):
    method = eval_mode(name, config, **GUESSED)
    batch, truth = random_batch()
    with pytest.raises(PipelineError, match=r"pseudo_labels: .*audio_labels.*\(4, 6, 3\)"):
        losses(method, batch, truth)
    others = {**batch.others, "audio_labels": torch.zeros(4, 6, CLASSES), "visual_labels": torch.zeros(4, 6, 25)}
    with pytest.raises(PipelineError, match=r"visual_labels.*\(4, 6, 25\).*\(4, 6, 3\)"):
        losses(method, Batch(batch.visual, batch.audio, batch.mask, others), truth)


def test_a_method_that_cannot_learn_from_them_refuses(monkeypatch):
    method = eval_mode("han", {"width": 16, "feedforward": 24}, **GUESSED)
    monkeypatch.setattr(type(method), "losses_of_clips", lambda *_: {"total": torch.zeros(())})
    batch, truth = random_batch()
    with pytest.raises(PipelineError, match="pseudo_labels: Han "):
        method.losses(with_labels(batch), truth.several, LATE)


def random_truth(batch: Batch) -> ParsingTargets:
    generator = torch.Generator().manual_seed(8)
    audio, visual = (torch.rand(*batch.mask.shape, CLASSES, generator=generator) < 0.5 for _ in range(2))
    return ParsingTargets(audio, visual, (audio | visual).any(dim=1))


@pytest.mark.parametrize("name", METHODS_OF_PARSING)
def test_thresholds_are_selected_by_the_task_s_own_metric(name, monkeypatch):
    """Compared with trying every threshold of every class; only the chosen modality's clip threshold changes."""
    monkeypatch.setattr("pipeline.tasks.avvp.scores.RESAMPLES", 1)  # nobody looks at the metric's intervals
    batch, _ = random_batch(6)
    batch = Batch(batch.visual, batch.audio, torch.arange(6) < torch.tensor([6] * 5 + [2])[:, None], batch.others)
    truth, best = random_truth(batch), torch.empty(2, CLASSES)
    for selected_for in (("audio", "visual"), ("visual",), ("audio",)):
        method = eval_mode(name, SMALL[name].settings, thresholds="selected", selected_for=list(selected_for))
        with torch.no_grad():
            scores = method.predict(batch)
        buffers = method.calibrated(scores, truth, batch.mask)
        assert list(buffers) == ["selected_thresholds"]
        if len(selected_for) == 2:  # the same scores in all three
            best = best_of_all(scores, truth, batch.mask)
        expected = best.clone()
        for number, modality in enumerate(("audio", "visual")):
            if modality not in selected_for:
                expected[number] = torch.nan
        torch.testing.assert_close(buffers["selected_thresholds"], expected, atol=1e-6, rtol=0, equal_nan=True)


def best_of_all(scores, truth, mask) -> torch.Tensor:
    """(2, C): for audio and visual the greatest threshold of a clip among those whose event-level F-score is the best."""
    best, scored = torch.empty(2, CLASSES), {}  # few gates part the clips anew: the others' decisions have been scored
    for (number, metric), c in itertools.product(enumerate(("event/A", "event/V")), range(CLASSES)):
        tried = []
        for step in range(5, 15):
            gates = scores.thresholds.clone()
            gates[:, number, 1, c] = torch.tensor(round(0.05 * step, 2), dtype=torch.float32)
            said = avvp.decide(type(scores)(scores.audio, scores.visual, scores.clip_audio, scores.clip_visual, gates), mask)
            if (bits := said.numpy().tobytes()) not in scored:
                scored[bits] = avvp.score(said, truth, mask, CLASSES, 1.0)
            tried.append((scored[bits][metric], step))
        best[number, c] = 0.05 * max(tried)[1]
    return best


@every_case
def test_selected_thresholds_are_saved_and_take_the_place_of_the_method_s_own(name, config):
    batch, _ = random_batch()
    plain, method = eval_mode(name, config), eval_mode(name, config, thresholds="selected")
    chosen = torch.tensor([[float("nan")] * CLASSES, [0.25, 0.6, 0.7]])
    with torch.no_grad():
        own, before = plain.predict(batch).thresholds, method.predict(batch).thresholds
        method.load_state_dict({**method.state_dict(), "selected_thresholds": chosen})
        after = method.predict(batch).thresholds
    assert torch.equal(own, before), "nothing selected yet"
    assert "selected_thresholds" not in plain.state_dict()
    assert torch.equal(after[:, 0], own[:, 0])
    assert torch.equal(after[:, 1, 0], own[:, 1, 0])
    torch.testing.assert_close(after[:, 1, 1], chosen[1].expand(4, -1))


@every_case
@pytest.mark.parametrize("given", [{"visual": (0.7, 0.4, 0.55)}, {"audio": (0.0, 1.0, 0.3), "visual": (0.7, 0.4, 0.55)}], ids=list)
def test_given_thresholds_take_the_place_of_the_method_s_own(name, config, given):
    """They need no validation, are saved, and do not apply to the first network."""
    batch, _ = random_batch()
    plain, method = build_again(name, config), build_given(name, config, given)
    with torch.no_grad():
        own, found = plain.eval().predict(batch).thresholds, method.eval().predict(batch).thresholds
    for number, modality in enumerate(("audio", "visual")):
        expected = torch.tensor(given[modality]).expand(4, -1) if modality in given else own[:, number, 1]
        torch.testing.assert_close(found[:, number, 1], expected)
    assert torch.equal(found[:, :, 0], own[:, :, 0])
    assert "selected_thresholds" in method.kept_weights()
    assert method.config.calibrated_after is None
    if method.config.first is not None:
        again = type(method.config.first)(**method.config.first.model_dump())  # as the first network's run builds it
        assert again == plain.config.first
        assert again.thresholds == "fixed"


def build_given(name, config, given):
    torch.manual_seed(0)
    method_class = METHODS.get(name)
    settings = method_class.Config(**config, thresholds="given", given_thresholds=given)
    wanted = {stream: (5,) for stream in settings.streams}
    return method_class(settings, (2, 3, 6), (7,), CLASSES, wanted)


@pytest.mark.parametrize("name", METHODS_OF_PARSING)
def test_given_thresholds_that_do_not_fit_are_refused(name):
    config = METHODS.get(name).Config
    for wrong in ({"thresholds": "given"}, {"given_thresholds": {"visual": [0.5]}}):
        with pytest.raises(ValidationError, match=r"given_thresholds.*`thresholds: given`"):
            config(**wrong)
    with pytest.raises(ValidationError, match=r"equal to 1\b"):
        config(thresholds="given", given_thresholds={"visual": [0.5, 1.2, 0.5]})
    with pytest.raises(PipelineError, match=r"given_thresholds\.audio: 2 .*\b3\b"):
        build_given(name, {}, {"audio": [0.5, 0.5]})


@pytest.mark.parametrize("name", METHODS_OF_PARSING)
def test_an_epoch_that_is_never_reached_is_refused(name):
    config = METHODS.get(name).Config
    with pytest.raises(ValidationError, match=r"threshold_epoch 9 .*recipe\.epochs 8"):
        config(thresholds="selected", threshold_epoch=9, recipe={"epochs": 8})
    assert config(thresholds="selected", threshold_epoch=8, recipe={"epochs": 8}).calibrated_after == 8
    assert config(thresholds="selected").calibrated_after == 0
    assert config(threshold_epoch=8, recipe={"epochs": 8}).calibrated_after is None
