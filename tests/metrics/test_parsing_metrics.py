"""The parsing scores against loops written from their definition, and against what is known of LLP."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.llp import CLASSES
from pipeline.datasets.segments import occupied
from pipeline.metrics.parsing import KEYS, class_scores, clip_scores, count, micro_scores, parsing_scores
from pipeline.tasks import avvp
from pipeline.tasks.avvp import ParsingTargets

# --- the definition, clip by clip, class by class, event by event -------------------------------------------------------------------------


def events_of(line):
    found, start = [], None
    for position, on in enumerate([*line, False]):
        if on and start is None:
            start = position
        if not on and start is not None:
            found.append(set(range(start, position)))
            start = None
    return found


def fits(one, other):
    return len(one & other) / len(one | other) >= 0.5


def tally(pred, true, level):
    """(TP, FP, FN) of one line of segments."""
    if level == "segment":
        pairs = list(zip(pred, true, strict=True))
        return sum(p and t for p, t in pairs), sum(p and not t for p, t in pairs), sum(t and not p for p, t in pairs)
    said, wanted = events_of(pred), events_of(true)
    right = sum(any(fits(event, other) for other in wanted) for event in said)
    return right, len(said) - right, sum(not any(fits(event, other) for event in said) for other in wanted)


def f_of(tallies):
    """Mean F over the classes with anything; None without any."""
    scores = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in tallies if tp + fp + fn > 0]
    return sum(scores) / len(scores) if scores else None


KIND = {
    "A": lambda a, v: a,
    "V": lambda a, v: v,
    "AV": lambda a, v: a and v,
    "Ao": lambda a, v: a and not v,
    "Vo": lambda a, v: v and not a,
}


def tallies_of(kind, level, pred_a, pred_v, true_a, true_v):
    """(TP, FP, FN) of each class of one clip."""
    result = []
    for lines in zip(pred_a, pred_v, true_a, true_v, strict=True):
        pa, pv, ta, tv = lines
        pred = [KIND[kind](a, v) for a, v in zip(pa, pv, strict=True)]
        true = [KIND[kind](a, v) for a, v in zip(ta, tv, strict=True)]
        result.append(tally(pred, true, level))
    return result


def naive(pred_a, pred_v, true_a, true_v, empty="perfect"):
    clips = list(zip(pred_a, pred_v, true_a, true_v, strict=True))
    scores = {}
    for level in ("segment", "event"):
        of = {kind: [tallies_of(kind, level, *clip) for clip in clips] for kind in KIND}
        for name, (first, second) in {"Event@AV": ("A", "V"), "Event@AVo": ("Ao", "Vo")}.items():
            of[name] = [
                [tuple(a + b for a, b in zip(one, other, strict=True)) for one, other in zip(x, y, strict=True)]
                for x, y in zip(of[first], of[second], strict=True)
            ]
        for name, lists in of.items():
            values = [f_of(tallies) for tallies in lists]
            values = [1.0 if value is None else value for value in values] if empty == "perfect" else [v for v in values if v is not None]
            scores[f"{level}/{name}"] = 100 * sum(values) / len(values) if values else float("nan")
        for name, parts in {"Type@AV": ("A", "V", "AV"), "Type@AVo": ("Ao", "Vo", "AV")}.items():
            scores[f"{level}/{name}"] = sum(scores[f"{level}/{part}"] for part in parts) / 3
    return scores


CLIPS = 20  # of one case; each is a random case of its own, with densities of its own
DENSITIES = [0.0, 0.05, 0.3, 0.5, 0.8, 1.0]


@st.composite
def cases(draw):
    """Four tables; every clip's lines are empty, sparse, dense or full, and in half of the clips the prediction is near the truth."""
    classes, segments = draw(st.integers(1, 2)), draw(st.integers(1, 10))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    densities = generator.choice(DENSITIES, (4, CLIPS, 1, 1))
    tables = list(generator.random((4, CLIPS, classes, segments)) < densities)
    near = generator.random((CLIPS, 1, 1)) < 0.5
    for pred, true in ((0, 2), (1, 3)):
        tables[pred] = np.where(near, tables[true] ^ (generator.random(tables[true].shape) < 0.1), tables[pred])
    return tables


@settings(max_examples=100)
@given(cases())
def test_any_case_is_as_the_definition_says(tables):
    """2,000 clips: each alone, and the mean of twenty, empty clips counted and left out."""
    alone = [naive(*(table[clip : clip + 1].tolist() for table in tables)) for clip in range(CLIPS)]
    of_clips = clip_scores(count(*tables))
    assert tuple(of_clips) == KEYS
    for key in KEYS:
        np.testing.assert_allclose(of_clips[key], [scores[key] for scores in alone], atol=1e-9, err_msg=key)
    scores, left_out = parsing_scores(*tables), parsing_scores(*tables, empty="skip")
    expected = naive(*(table.tolist() for table in tables), empty="skip")
    for key in KEYS:
        assert scores[key] == pytest.approx(np.mean([of_clip[key] for of_clip in alone]), abs=1e-9), key
        assert left_out[key] == pytest.approx(expected[key], abs=1e-9, nan_ok=True), key


def tables(*lines):
    """Lines of "0110" -> (1, 1, T) each."""
    return [np.array([[[character == "1" for character in line]]]) for line in lines]


@pytest.mark.parametrize(
    ("pred", "true", "score"),
    [
        ("1100", "1111", 100.0),  # an intersection over union of exactly one half
        ("1000", "1110", 0.0),  # a third
        ("1101", "1111", 200 / 3),  # one of two fits
        ("0110", "1001", 0.0),
        ("1011", "1011", 100.0),
        ("0000", "0000", 100.0),
    ],
)
def test_events_by_hand(pred, true, score):
    nothing = "0" * len(pred)
    assert parsing_scores(*tables(pred, nothing, true, nothing))["event/A"] == pytest.approx(score)


def test_an_audio_only_segment_cuts_an_event():
    scores = parsing_scores(*tables("11111", "00000", "11111", "00100"))
    assert scores["event/A"] == 100
    assert scores["event/Ao"] == 0  # one run of five against two runs of two
    assert scores["segment/Ao"] == pytest.approx(100 * 8 / 9)
    assert scores["segment/AV"] == scores["segment/V"] == 0
    assert scores["segment/Event@AV"] == pytest.approx(100 * 10 / 11)


def random_tables(seed, clips=6, classes=4, segments=10):
    generator = np.random.default_rng(seed)
    return [generator.random((clips, classes, segments)) < share for share in (0.4, 0.3, 0.5, 0.2)]


def test_masked_segments_are_cut_off():
    full = random_tables(0)
    mask = np.ones((6, 10), bool)
    mask[:, 7:] = False
    assert parsing_scores(*full, mask=mask) == parsing_scores(*(table[:, :, :7] for table in full))


def test_scores_of_clips_average_to_those_of_all_and_do_not_depend_on_order():
    full = random_tables(1)
    of_clips, of_all = clip_scores(count(*full)), parsing_scores(*full)
    for key in KEYS:
        assert of_clips[key].mean() == pytest.approx(of_all[key]), key
    turned = parsing_scores(*(table[::-1, ::-1] for table in full))
    for key in KEYS:
        assert turned[key] == pytest.approx(of_all[key]), key


def test_micro_and_class_scores_pool_what_the_loops_count():
    full = random_tables(2)
    counts = count(*full)
    micro, classes = micro_scores(counts), class_scores(counts)
    assert set(micro) == set(classes) == set(KEYS)
    for level in ("segment", "event"):
        for kind in KIND:
            tallies = np.array([tallies_of(kind, level, *clip) for clip in zip(*(table.tolist() for table in full), strict=True)])
            tp, fp, fn = tallies.sum(axis=(0, 1))
            assert micro[f"{level}/{kind}"] == pytest.approx(100 * 2 * tp / (2 * tp + fp + fn))
            tp, fp, fn = tallies.sum(axis=0).T
            np.testing.assert_allclose(classes[f"{level}/{kind}"], 100 * 2 * tp / (2 * tp + fp + fn))


@pytest.mark.fault(33)
def test_nothing_to_score_is_not_a_number():
    empty = np.zeros((2, 3, 5), bool)
    counts = count(empty, empty, empty, empty)
    assert all(math.isnan(value) for value in parsing_scores(empty, empty, empty, empty, empty="skip").values())
    assert all(math.isnan(value) for value in micro_scores(counts).values())
    assert set(parsing_scores(empty, empty, empty, empty).values()) == {100.0}
    none = empty[:0]
    assert all(math.isnan(value) for value in parsing_scores(none, none, none, none).values())


def test_shapes_that_differ_are_refused():
    table = np.zeros((2, 3, 5), bool)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(N, C, T\)"):
        parsing_scores(table, table, table, table[:, :, :4])
    with pytest.raises(ValueError, match=r"mask \(5,\)"):
        parsing_scores(table, table, table, table, mask=np.ones(5, bool))


# --- LLP's own truth ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["before_2024_04", "corrected"])
def llp_truth(request, shared, tmp_path_factory):
    """(audio, visual, weak label everywhere) by split: (N, 25, 10) bool, of one version of the audio truth."""
    settings = DatasetSettings(
        kind="llp", clips=tmp_path_factory.mktemp("none"), annotations=shared / "annotations" / "llp", segments=10, segment_seconds=1.0,
        audio_truth=request.param,
    )  # fmt: skip
    index = build_index(settings)
    truth = {}
    for split in ("val", "test"):
        rows = [row for row in index.rows if row.split == split]
        audio, visual = (np.stack([occupied(row.events, index.classes, modality, 10) for row in rows]) for modality in ("audio", "visual"))
        labels = np.array([[name in row.clip_labels for name in index.classes] for row in rows])
        truth[split] = audio, visual, np.repeat(labels[:, :, None], 10, axis=2)
    return truth


# A, Ao, V, Vo, AV, Type@AV, Type@AVo, Event@AV, Event@AVo, to one decimal as the authors print them
NOTHING = {"test": [0.5, 38.1, 10.1, 65.6, 14.5, 8.4, 39.4, 0.0, 27.0], "val": [0.6, 36.7, 10.8, 67.3, 14.3, 8.6, 39.4, 0.0, 26.3]}
WEAK_LABEL = {
    "segment": [76.1, 38.1, 60.3, 65.6, 52.6, 63.0, 52.1, 71.7, 27.0],
    "event": [63.0, 38.1, 55.8, 65.6, 44.7, 54.5, 49.5, 61.6, 27.0],
}
NAMES = ("A", "Ao", "V", "Vo", "AV", "Type@AV", "Type@AVo", "Event@AV", "Event@AVo")


def rounded(scores, level):
    return [round(scores[f"{level}/{name}"], 1) for name in NAMES]


@pytest.mark.parametrize("split", ["val", "test"])
def test_predicting_nothing_on_llp(llp_truth, split):
    audio, visual, _ = llp_truth[split]
    nothing = np.zeros_like(audio)
    scores = parsing_scores(nothing, nothing, audio, visual)
    assert rounded(scores, "segment") == rounded(scores, "event") == NOTHING[split]


def test_the_weak_label_everywhere_on_llp(llp_truth):
    audio, visual, everywhere = llp_truth["test"]
    assert audio.shape == (1200, 25, 10)
    scores = parsing_scores(everywhere, everywhere, audio, visual)
    assert {level: rounded(scores, level) for level in WEAK_LABEL} == WEAK_LABEL


SPEECH_NEVER_SEEN = {
    "segment": [76.1, 54.0, 72.5, 65.6, 61.5, 70.0, 60.4, 75.4, 40.8],
    "event": [63.0, 43.6, 68.6, 65.6, 52.6, 61.4, 53.9, 63.0, 33.1],
}


def test_rare_classes_left_out_on_llp(llp_truth):
    """The weak label with Speech never seen, learned from validation; and with all that is mostly absent left out."""
    val, test = (
        ParsingTargets(*(torch.from_numpy(table).mT for table in (audio, visual)), torch.from_numpy(everywhere[:, :, 0]))
        for audio, visual, everywhere in llp_truth.values()
    )
    found = avvp.prior_scores(test, torch.ones(1200, 10, dtype=torch.bool), val, torch.ones(649, 10, dtype=torch.bool))
    never = {name: {modality: [CLASSES[c] for c in of] for modality, of in tracks.items()} for name, tracks in found["never"].items()}
    assert never["class_prior"] == {"audio": [], "visual": ["Speech"]}
    assert never["majority_prior"] == {
        "audio": ["Cat", "Basketball_bounce"],
        "visual": ["Speech", "Cheering", "Basketball_bounce", "Telephone_bell_ringing", "Clapping"],
    }
    assert {level: rounded(found["trivial"]["class_prior"], level) for level in SPEECH_NEVER_SEEN} == SPEECH_NEVER_SEEN
    majority = found["trivial"]["majority_prior"]
    assert [round(majority[key], 1) for key in ("segment/Type@AV", "event/Type@AV", "segment/Vo")] == [68.4, 61.1, 67.3]
