"""What an actor of a cluster does with the clips of a call, in this process and without a cluster."""

import pickle

import numpy as np

from pipeline.features.engines.on_node import Encode, Work
from pipeline.media.decoding import stored_verdicts
from pipeline.ray_nodes import Place
from tests.features import test_kept_frames
from tests.media.conftest import write_clip


def test_an_actor_decodes_every_clip_and_encodes_those_without_features(tmp_path):
    """Features without an answer are what a lost node leaves; a call may be of such clips alone."""
    (tmp_path / "clips").mkdir()
    for number in range(2):
        write_clip(tmp_path / f"clips/{number}.mp4", seconds=2.0, size=(48, 64), first_number=30 * number)
    (tmp_path / "clips/bad.mp4").write_text("<html>", encoding="utf-8")
    stages = test_kept_frames.Work(tmp_path / "clips", tmp_path, "verdicts")
    jobs, plan = stages.jobs, stages.extraction.plan
    actor = Encode(Place.here(), plan.encoder.settings, stages.cache.root)

    for clips, encoded in ((["bad", "0"], 1), (["0", "1"], 1), (["1", "0"], 0)):
        works = [pickle.dumps(Work(jobs[clip], plan.keys(jobs[clip]))) for clip in clips]
        answers = [pickle.loads(answer) for answer in actor({"work": np.array(works, dtype=object)})["answer"]]
        assert [(answer.problem, answer.fault) for answer in answers] == [(None, None)] * 2
        assert answers[0].busy["clips"] == encoded
        stored = stored_verdicts(jobs[clip] for clip in clips)
        assert [(answer.key, answer.verdict) for answer in answers] == [(jobs[clip].key, stored[clip]) for clip in clips]
    assert not plan.missing(plan.clips(stages.decode()))
