"""Trivial answers to parsing that have learned from validation which classes are rarely on, against loops."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.tasks import avvp, avvp_av
from pipeline.tasks.avvp import ParsingTargets
from pipeline.tasks.avvp.priors import LEAST
from pipeline.tasks.avvp_av import JointTargets

N, T, C = 6, 4, 4
MASK = torch.arange(T) < torch.tensor([4, 4, 2, 4, 3, 0])[:, None]


def random_truth(seed):
    generator = torch.Generator().manual_seed(seed)
    audio, visual = (torch.rand(N, T, C, generator=generator) < torch.tensor([0.9, 0.35, 0.15, 0.0]) for _ in range(2))
    labels = torch.rand(N, C, generator=generator) < 0.7
    labels[:, 3] = False  # a class of no clip
    return ParsingTargets(audio & labels[:, None], visual & labels[:, None], labels)


def expected_answer(truth, known, least):
    """The truth's labels without classes that ``known`` has in too few of its labelled clips' segments."""
    said = torch.zeros(N, 2, T, C, dtype=torch.bool)
    left_out = {"audio": [], "visual": []}
    for c in range(C):
        for number, modality in enumerate(("audio", "visual")):
            places = [(n, t) for n in range(N) for t in range(T) if known.labels[n, c] and MASK[n, t]]
            on = sum(bool(getattr(known, modality)[n, t, c]) for n, t in places)
            if places and on / len(places) < least:
                left_out[modality].append(c)
                continue
            for n in range(N):
                said[n, number, :, c] = truth.labels[n, c]
    return said, left_out


@pytest.mark.parametrize("name", list(LEAST))
def test_classes_that_validation_rarely_has_are_left_out(name):
    truth, known = random_truth(0), random_truth(1)
    found = avvp.prior_scores(truth, MASK, known, MASK)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said, left_out = expected_answer(truth, known, LEAST[name])
    assert found["never"][name] == left_out
    assert left_out["audio"] or left_out["visual"], "else the test compares nothing"
    of_answer = avvp.score(said, truth, MASK, C, 1.0)
    assert found["trivial"][name] == {key: of_answer[key] for key in found["trivial"][name]}
    assert found[f"baseline_{name}"] == of_answer[avvp.HEADLINE]
    assert found["trivial"][name].keys() == of_answer["trivial"]["weak_label"].keys()


def test_without_labelled_segments_every_class_is_left_out_and_without_clips_none():
    truth, none = random_truth(0), torch.zeros(N, T, C, dtype=torch.bool)
    silent = avvp.prior_scores(truth, MASK, ParsingTargets(none, none, torch.ones(N, C, dtype=torch.bool)), MASK)
    of_nothing = avvp.score(none[:, None].expand(-1, 2, -1, -1), truth, MASK, C, 1.0)
    assert silent["baseline_class_prior"] == of_nothing["baseline_nothing"]
    unknown = avvp.prior_scores(truth, MASK, ParsingTargets(none, none, none[:, 0]), MASK)
    assert unknown["baseline_class_prior"] == of_nothing["baseline_weak_label"]


def test_audio_visual_events_alone_have_the_same_answers():
    truth, known = (
        JointTargets(parsed.audio, parsed.labels, torch.zeros(N, 1, 2), torch.full((N, 1), -1), torch.full((N,), float(T)))
        for parsed in (random_truth(0), random_truth(1))
    )
    found = avvp_av.prior_scores(truth, MASK, known, MASK)
    both = [ParsingTargets(part.segments, part.segments, part.labels) for part in (truth, known)]
    expected = avvp.prior_scores(both[0], MASK, both[1], MASK)
    for name in LEAST:
        assert found["never"][name] == {"audio_visual": expected["never"][name]["visual"]}
        assert found[f"baseline_{name}"] == found["trivial"][name]["segment/AV"] == expected["trivial"][name]["segment/AV"]
        assert set(found["trivial"][name]) == {"segment/AV", "event/AV", "present/segment/AV", "present/event/AV"}
