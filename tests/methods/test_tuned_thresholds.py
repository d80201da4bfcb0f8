"""`thresholds: tuned`: gates and shares of two passes, chosen on validation, stored with the weights and used in prediction."""

import pytest
import torch
from contract import CLASSES, PARSING, build, random_batch

from pipeline.errors import PipelineError
from pipeline.tasks import avvp_av
from pipeline.tasks.avvp_av import JointTargets

CASES = {
    "han": {**PARSING, "thresholds": "tuned"},
    "cmpae": {**PARSING, "denoise": False, "thresholds": "tuned"},
    "coleaf": {"feedforward": 24, "anchor": "cmpae", "anchor_settings": {"width": 16, "denoise": False}, "thresholds": "tuned"},
}


def calibration(name):
    """A method that does not know its thresholds yet, a batch, and what is true of it."""
    method = build(name, CASES[name]).eval()
    for buffer in method.buffers():
        buffer.fill_(float("nan"))
    batch, truth = random_batch(6, 5)
    segments = truth.parsing.audio
    none = torch.full((6, 1), -1)
    return method, batch, JointTargets(segments, segments.any(dim=1), torch.zeros(6, 1, 2), none, torch.full((6,), 5.0))


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_prediction_uses_what_was_tuned_and_no_choice_is_better(name):
    method, batch, true = calibration(name)
    scores = method.predict(batch)
    tuned = method.calibrated(scores, true, batch.mask)
    shares = {key: value for key, value in tuned.items() if key.endswith("share")}
    assert len(shares) == (name != "han")

    def headline():
        answered = method.predict(batch)
        assert not answered.unfused
        return avvp_av.score(avvp_av.decide(answered, batch.mask), true, batch.mask, CLASSES, 1.0)["segment/AV"], answered

    method.load_state_dict({**method.state_dict(), **tuned})
    best, answered = headline()
    assert (answered.thresholds[:, :, 0] == tuned["tuned_gates"][0]).all()
    assert (answered.thresholds[:, :, 1] == tuned["tuned_gates"][1]).all()
    for gates in ((0.325, 0.025), (0.475, 0.475), (0.525, 0.525)):
        for share in (0.0, 0.4, 1.0):
            others = {"tuned_gates": torch.tensor(gates), **{key: torch.tensor(share) for key in shares}}
            method.load_state_dict({**method.state_dict(), **others})
            assert headline()[0] <= best + 1e-4


def test_another_tasks_truth_is_refused():
    method, batch, true = calibration("han")
    with torch.no_grad():
        scores = method.predict(batch)
    with pytest.raises(PipelineError, match="tuned needs the task avvp_av"):
        method.calibrated(scores, random_batch(6, 5)[1].parsing, batch.mask)
    with pytest.raises(PipelineError, match="selected needs the task avvp"):
        build("han", {**PARSING, "thresholds": "selected"}).calibrated(scores, true, batch.mask)
