import hashlib

import numpy as np
import pytest

from pipeline.datasets import DatasetSettings, build_index, llp, read_index, write_index
from pipeline.datasets.segments import occupied
from pipeline.errors import InputProblems
from pipeline.synth.annotations import write_annotations
from pipeline.synth.plan import CATEGORIES, draw_world
from pipeline.synth.settings import SynthSettings
from tests.wording import each_says, one_says

TEN_SECONDS = {"segments": 10, "segment_seconds": 1.0}
WEAK = {
    "AVVP_train.csv": ["tra-_in01_0_10\tSpeech,Dog", "-dash_id02_3_13\tCar"],
    "AVVP_val_pd.csv": ["val_id00001_8.5_18.5\tCat,Cat"],
    "AVVP_test_pd.csv": ["tes_id00001_30_40\tSpeech,Cat", "tes_id00002_0_10\tDog"],
}
AUDIO = [
    "tes_id00001_30_40\t0\t4\tSpeech",
    "tes_id00001_30_40\t3\t6\tSpeech",
    "tes_id00001_30_40\t6\t7\tSpeech",
    "tes_id00002_0_10\t9\t0\tDog",
]
VISUAL = ["tes_id00001_30_40\t2\t5\tSpeech", "tes_id00001_30_400\t0\t10\tCat", "tes_id00002_0_10\t0\t10\tDog", "tra-_in01_0_10\t0\t3\tDog"]


def write_llp(root, weak=WEAK, audio=AUDIO, visual=VISUAL):
    root.mkdir(exist_ok=True)
    for name, lines in weak.items():
        (root / name).write_text("\n".join(["filename\tevent_labels", *lines]) + "\n", encoding="utf-8")
    for name, lines in {"audio": audio, "visual": visual}.items():
        (root / f"AVVP_eval_{name}.csv").write_text("\n".join(["filename\tonset\toffset\tevent_labels", *lines]) + "\n", encoding="utf-8")
    return root


def build(root, clips=None, **changes):
    return build_index(DatasetSettings(kind="llp", clips=clips or root, annotations=root, **TEN_SECONDS, **changes))


def test_training_clips_have_labels_alone_and_the_others_spans_by_modality(tmp_path):
    root = write_llp(tmp_path / "llp")
    (root / "-dash_id02.mp4").write_bytes(b"x")
    index = build(root)
    assert [(row.clip, row.split) for row in index.rows] == [
        ("tra-_in01", "train"),
        ("-dash_id02", "train"),
        ("val_id00001", "val"),
        ("tes_id00001", "test"),
        ("tes_id00002", "test"),
    ]
    assert [row.clip_labels for row in index.rows] == [("Speech", "Dog"), ("Car",), ("Cat",), ("Speech", "Cat"), ("Dog",)]
    assert all(row.events == () for row in index.rows[:3])
    assert index.rows[1].file is not None
    audio, visual = (occupied(index.rows[3].events, index.classes, modality, 10) for modality in ("audio", "visual"))
    assert np.flatnonzero(audio[0]).tolist() == [0, 1, 2, 3, 4, 5, 6]  # class 0 is Speech; overlapping and touching lines merge
    assert np.flatnonzero(visual[0]).tolist() == [2, 3, 4]
    assert (audio.sum(), visual.sum()) == (7, 3)  # the line of a name that no clip has is lost
    assert index.rows[4].events == (llp.Event("visual", "Dog", 0.0, 10.0),)


def test_every_defect_that_does_not_stop_is_counted_with_its_line(tmp_path):
    root = write_llp(tmp_path / "llp")
    (root / "AVVP_dataset_full.csv").write_text("filename\tevent_labels\nnobody00001_0_10\tDog\n", encoding="utf-8")
    expected = [
        ("AVVP_eval_audio.csv", "neither"),
        ("fractions", ": 1 (val_id00001_8.5_18.5)"),
        ("label twice", ": 1 (val_id00001_8.5_18.5 line 2)"),
        ("audio lines", "onset", ": 1 (tes_id00002_0_10 line 5)"),
        ("audio lines", "overlap", ": 1 (tes_id00001_30_40 line 3)"),
        ("audio lines", "touch", ": 1 (tes_id00001_30_40 line 4)"),
        ("val and test", "without audio", ": 1 (val_id00001_8.5_18.5)"),
        ("visual lines", "no clip", ": 1 (tes_id00001_30_400 line 3)"),
        ("visual lines", "training clips", ": 1 (tra-_in01_0_10 line 5)"),
        ("val and test", "without visual", ": 1 (val_id00001_8.5_18.5)"),
        ("labels", "without", ": 2 (val_id00001_8.5_18.5 Cat, tes_id00001_30_40 Cat)"),
        ("AVVP_dataset_full.csv", "no split", ": 1 (nobody00001_0_10)"),
        ("AVVP_dataset_full.csv", ": 5 (-dash_id02_3_13, tes_id00001_30_40, tes_id00002_0_10, tra-_in01_0_10, val_id00001_8.5_18.5)"),
        ("without a file", ": 5 (tra-_in01, -dash_id02, val_id00001, tes_id00001, tes_id00002)"),
    ]
    assert each_says(build(root, clips=None).health, expected)


@pytest.mark.fault(13, 14)
def test_all_faults_are_reported_at_once_with_file_and_line(tmp_path):
    weak = {
        **WEAK,
        "AVVP_train.csv": ["a_0_10\tDogg", "../etc/b_0_10\tDog", "nospan\tDog", "c_0_10", "d_10_5\tDog", "tes_id00002_0_10\tDog"],
    }
    audio = ["tes_id00002_0_10\t0\t11\tDog", "tes_id00002_0_10\tx\t5\tDog", "tes_id00002_0_10\t0\t5\tBird", "tes_id00002_0_10\tnan\t5\tDog"]
    root = write_llp(tmp_path / "llp", weak, audio)
    (root / "AVVP_eval_visual.csv").write_text("filename,onset,offset,event_labels\n", encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        build(root)
    expected = [
        ("AVVP_train.csv:2:", "'Dogg'", "'Dog'"),
        ("AVVP_train.csv:3:", "path separator"),
        ("AVVP_train.csv:4:", "<id>_<start>_<end>"),
        ("AVVP_train.csv:5:", "1 column", "2"),
        ("AVVP_train.csv:6:", "end"),
        ("'tes_id00002'", "train line 7", "test line 3"),
        ("AVVP_eval_audio.csv:2:", "0-11 s"),
        ("AVVP_eval_audio.csv:3:", "number"),
        ("AVVP_eval_audio.csv:4:", "'Bird'"),
        ("AVVP_eval_audio.csv:5:", "nan"),
        ("AVVP_eval_visual.csv:1:", "tab"),
    ]
    assert each_says(caught.value.problems, expected)


def test_missing_files_are_all_named(tmp_path):
    (tmp_path / "llp").mkdir()
    with pytest.raises(InputProblems) as caught:
        build(tmp_path / "llp")
    assert len(caught.value.problems) == 5


def test_the_audio_truth_is_known_by_its_hash(tmp_path, monkeypatch):
    root = write_llp(tmp_path / "llp")
    new, old = root / "AVVP_eval_audio.csv", root / "AVVP_eval_audio_other.csv"
    old.write_text(new.read_text(encoding="utf-8").replace("\t6\t7\t", "\t6\t8\t"), encoding="utf-8")
    versions = {hashlib.sha256(path.read_bytes()).hexdigest(): name for path, name in ((new, "corrected"), (old, "before_2024_04"))}
    monkeypatch.setattr(llp, "AUDIO_VERSIONS", versions)
    audio = {}
    for version in ("before_2024_04", "corrected"):
        index = build(root, audio_truth=version)
        audio[version] = occupied(index.rows[3].events, index.classes, "audio", 10).sum()
        assert version in index.health[0]
    assert audio == {"before_2024_04": 8, "corrected": 7}
    old.unlink()
    with pytest.raises(InputProblems, match=r"AVVP_eval_audio\.csv .*corrected.*dataset\.audio_truth"):
        build(root)


def test_demo_worlds_are_read_with_their_own_classes(tmp_path):
    """The truth of a plan, through the files and back."""
    plans = draw_world(SynthSettings(seed=4, train_clips=6, val_clips=4, test_clips=5, picture_size=64))
    write_annotations(tmp_path, plans)
    index = build(tmp_path)
    assert index.classes == list(CATEGORIES)
    assert [row.split for row in index.rows] == ["train"] * 6 + ["val"] * 4 + ["test"] * 5
    by_id = {plan.id: plan for plan in plans}
    for row in index.rows:
        plan = by_id[row.clip]
        assert set(row.clip_labels) == {CATEGORIES[span.category] for span in plan.spans}
        for modality in ("audio", "visual") if row.split != "train" else ():
            expected = np.zeros((len(CATEGORIES), 10), dtype=bool)
            for span in plan.of(modality):
                expected[span.category, int(span.onset) : int(span.offset)] = True
            np.testing.assert_array_equal(occupied(row.events, index.classes, modality, 10), expected)


def test_realmix_is_read_whole(shared):
    root = shared / "realmix"
    index = build(root, clips=root / "clips")
    assert [sum(row.split == split for row in index.rows) for split in ("train", "val", "test")] == [200, 40, 60]
    assert all(row.file for row in index.rows)
    assert index.classes[:3] == ["Dog", "Rooster", "Cat"]


STATISTICS = {"before_2024_04": (14_568, 9_591, 4_977, 2_198), "corrected": (14_576, 9_592, 4_984, 2_197)}


@pytest.mark.parametrize("version", STATISTICS)
def test_the_published_files_have_the_published_statistics(tmp_path, shared, version):
    """Count test segments on: audio, audio-visual, audio alone, visual alone.

    The specification's numbers are those of the corrected audio
    truth.
    """
    of_audio, both, audio_alone, visual_alone = STATISTICS[version]
    root = shared / "annotations" / "llp"
    if not (root / "AVVP_train.csv").is_file():
        pytest.skip("no LLP annotations here")
    index = build(root, audio_truth=version)
    assert len(index.rows) == len({row.clip for row in index.rows}) == 11_849
    assert [sum(row.split == split for row in index.rows) for split in ("train", "val", "test")] == [10_000, 649, 1_200]
    assert {len(row.clip) for row in index.rows} == {11}
    assert len(index.classes) == 25
    write_index(index, tmp_path)
    rows, classes = read_index(tmp_path)  # what training and evaluation see
    test = rows[rows["split"] == "test"]
    tables = {}
    for modality in ("audio", "visual"):
        events = [[llp.Event(**event) for event in of_row] for of_row in test["events"]]
        tables[modality] = np.stack([occupied(of_row, classes, modality, 10) for of_row in events])
    audio, visual = tables["audio"], tables["visual"]
    assert (audio.sum(), visual.sum(), (audio & visual).sum()) == (of_audio, 11_789, both)
    assert ((audio & ~visual).sum(), (visual & ~audio).sum()) == (audio_alone, visual_alone)
    assert rows[rows["split"] == "train"]["events"].map(len).sum() == 0
    assert sum(len(labels) for labels in rows[rows["split"] == "train"]["labels"]) == 16_057  # 1.6057 a clip
    labels = 36 if version == "before_2024_04" else 35
    counted = [
        (("audio lines", "onset"), 6),
        (("audio lines", "overlap"), 21),
        (("audio lines", "touch"), 11),
        (("visual lines", "touch"), 3),
        (("lines whose class", "labels"), 127),
        (("labels", "without"), labels),
        (("fractions",), 5),
        (("label twice",), 1),
        (("val and test", "without audio"), 9),
    ]
    for words, count in counted:
        assert one_says(index.health, *words, f": {count} ("), (words, index.health)
