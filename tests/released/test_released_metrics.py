"""Parsing scores equal those of the released evaluation: of 200 clips one by one, of 4,000 pairs of tracks, and on LLP's annotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from released_answers import answers, described, stored

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.segments import occupied
from pipeline.metrics.parsing import clip_scores, count, event_counts, parsing_scores
from pipeline.tasks import avvp as task
from pipeline.tasks.avvp import ParsingTargets

TABLES = ("pred_a", "pred_v", "gt_a", "gt_v")
LEVELS = {"seg": "segment", "evt": "event"}
KINDS = {"": ("A", "V", "Event@AV", "AV"), "_only": ("Ao", "Vo", "Event@AVo", "AV")}  # the columns a, v, event, av
VERSIONS = {"coleaf": "before_2024_04", "han": "corrected"}  # of LLP's audio truth, by who ships it
EXACT, PRINTED = 1e-9, 6e-5  # PRINTED: four decimals


def test_each_clip():
    with answers("metrics.npz") as released:
        scores = clip_scores(count(*(released.arrays[name] > 0 for name in TABLES)))
        for level in LEVELS.values():
            for suffix, kinds in KINDS.items():
                released.equal(f"{level}{suffix}", np.stack([scores[f"{level}/{kind}"] for kind in kinds], axis=1) / 100, EXACT)
        assert released.arrays["columns"].tolist() == ["a", "v", "event", "av"]
        released.compared |= {*TABLES, "columns", "names"}  # what goes in, and where a clip is from


@pytest.mark.parametrize(("part", "only", "mean"), [("old", "", "mean_of_ten"), ("new_only", "o", "mean_of_ten_new")])
def test_the_means_of_all_clips(part, only, mean):
    """As the task gives them, with the two means of ten by which CMPAE and CoLeaF pick an epoch."""
    audio, visual, true_audio, true_visual = (torch.from_numpy(stored("metrics.npz")[name] > 0).mT for name in TABLES)
    truth = ParsingTargets(true_audio, true_visual, true_audio.any(dim=1) | true_visual.any(dim=1))
    scores = task.score(torch.stack([audio, visual], dim=1), truth, torch.ones(audio.shape[:2], dtype=torch.bool), 25, 1.0)
    ours = {"mean10": scores[mean]}
    for short, level in LEVELS.items():
        ours |= {f"{kind}{only}_{short}": scores[f"{level}/{kind}{only}"] for kind in ("A", "V")}
        ours |= {f"{kind}_{short}{only}": scores[f"{level}/{kind}@AV{only}"] for kind in ("Type", "Event")}
        ours[f"AV_{short}"] = scores[f"{level}/AV"]
    assert ours == pytest.approx(described("metrics.json")[part], abs=EXACT)


def test_events_pair_by_pair():
    with answers("metrics_events.npz") as released:
        right, false, missed = (part[:, 0] for part in event_counts(*(released.arrays[name][:, None] > 0 for name in ("pred", "gt"))))
        released.equal("tp_fp_fn_npred_ngt", np.stack([right, false, missed, right + false, right + missed], axis=1), 0)
        released.compared |= {"pred", "gt"}  # what goes in


# --- LLP's annotations, which are no part of the project ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["val", "test"])
def llp(request, shared, tmp_path_factory) -> tuple[str, dict[str, Any]]:
    """The split, and by the repository that ships the truth (audio, visual, weak label everywhere): (N, 25, 10) bool each."""
    tables = {}
    for repository, version in VERSIONS.items():
        settings = DatasetSettings(
            kind="llp", clips=tmp_path_factory.mktemp("none"), annotations=shared / "annotations" / "llp", segments=10,
            segment_seconds=1.0, audio_truth=version,
        )  # fmt: skip
        index = build_index(settings)
        rows = [row for row in index.rows if row.split == request.param]
        audio, visual = (np.stack([occupied(row.events, index.classes, modality, 10) for row in rows]) for modality in ("audio", "visual"))
        labels = np.array([[name in row.clip_labels for name in index.classes] for row in rows])
        tables[repository] = audio, visual, np.repeat(labels[:, :, None], 10, axis=2)
    return request.param, tables


def equals(tables, printed) -> None:
    """The scores of (audio, visual, true audio, true visual) are those printed to four decimals."""
    scores = parsing_scores(*tables)
    assert printed.keys() == {f"{short}{suffix}" for short in LEVELS for suffix in KINDS}
    for short, level in LEVELS.items():
        for suffix, kinds in KINDS.items():
            assert [scores[f"{level}/{kind}"] for kind in kinds] == pytest.approx(printed[f"{short}{suffix}"], abs=PRINTED)


def test_trivial_answers_on_llp(llp):
    split, tables = llp
    released = described("metrics.json")
    for repository, (audio, visual, everywhere) in tables.items():
        nothing = np.zeros_like(audio)
        equals((nothing, nothing, audio, visual), released[f"{split}_{repository}_empty_prediction"])
        equals((everywhere, everywhere, audio, visual), released[f"{split}_{repository}_weak_label_everywhere"])
    equals((*tables["han"][:2], *tables["coleaf"][:2]), released[f"{split}_upstream2024_gt_scored_against_old_gt"])


def test_what_llp_holds(llp):
    split, tables = llp
    audio, visual, _ = tables["coleaf"]
    kinds = {"audio": audio, "visual": visual, "av": audio & visual, "ao": audio & ~visual, "vo": visual & ~audio}
    without = {f"no_{kind}": int((~table.any(axis=(1, 2))).sum()) for kind, table in kinds.items()}
    assert {"videos": len(audio), **without} == described("metrics.json")[f"{split}_gt"]


def test_every_part_of_the_file_belongs_to_a_test():
    trivial = [f"{repository}_{answer}" for repository in VERSIONS for answer in ("empty_prediction", "weak_label_everywhere")]
    parts = [*trivial, "upstream2024_gt_scored_against_old_gt", "gt"]
    assert described("metrics.json").keys() == {"old", "new_only", *(f"{split}_{part}" for split in ("val", "test") for part in parts)}
