"""Folds: what shares a source stays together, every clip is tested once, and the same clips give the same folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.base import Event, FoldSettings, Row
from pipeline.datasets.folding import make_folds, read_sources
from pipeline.datasets.folds import Folds, Place, read_folds, write_folds
from pipeline.errors import InputProblems, PipelineError
from tests.wording import one_says, says

CLASSES = ["Dog", "Cat", "Bell"]


def row(clip: str, label: str, split="train", file=None) -> Row:
    return Row(clip, split, file, (Event("av", label, 0.0, 1.0),))


@pytest.fixture
def rows() -> list[Row]:
    """60 clips, 20 of each class, in the fixed splits of a data set, then one in no split and one negative."""
    clips = [row(f"clip{number}", CLASSES[number % 3], ("train", "val", "test")[number % 7 % 3]) for number in range(60)]
    return [*clips, row("left", "Dog", "none"), Row("empty", "negative", None)]


def sources(path, pairs, header="clip,source"):
    path.write_text("\n".join([header, *(f"{clip},{source}" for clip, source in pairs)]) + "\n", encoding="utf-8")
    return path


def table(folds: Folds) -> pd.DataFrame:
    return pd.DataFrame([(clip, *place) for clip, place in folds.clips.items()], columns=["clip", "group", "fold"])


def test_clips_alone_are_dealt_evenly_and_class_by_class(rows):
    folds = make_folds(rows, FoldSettings(number=5))
    found = table(folds)
    assert list(found["clip"]) == [f"clip{number}" for number in range(60)]
    assert found["fold"].value_counts().to_dict() == dict.fromkeys(range(5), 12)
    classes = found["clip"].str.removeprefix("clip").astype(int) % 3
    assert (pd.crosstab(classes, found["fold"]) == 4).all().all()
    assert folds == make_folds(rows, FoldSettings(number=5))
    assert one_says(folds.facts["health"], "splits of the annotations", "train 2", "val 1", "test 1", "not used")


def test_linked_clips_are_in_one_fold_though_they_share_no_source_themselves(rows, tmp_path):
    chain = [(f"clip{number}", f"photo {number // 2}") for number in range(60)]  # pairs ...
    chain += [("clip1", "sound"), ("clip30", "sound"), ("clip31", "hum"), ("clip59", "hum")]  # ... of which four are a chain
    folds = make_folds(rows, FoldSettings(number=4, by=sources(tmp_path / "by.csv", chain, "id,file")))
    found = table(folds)
    together = {clip: place.group for clip, place in folds.clips.items()}
    assert {clip for clip, group in together.items() if group == together["clip59"]} == {
        *["clip0", "clip1", "clip30", "clip31", "clip58", "clip59"]
    }
    assert found.groupby("group")["fold"].nunique().max() == 1
    assert folds.facts["groups"] == found["group"].nunique() == 28
    assert found["fold"].value_counts().max() - found["fold"].value_counts().min() <= 2


def test_windows_of_a_film_equal_bytes_and_rows_of_a_clip_stay_together():
    films = [row(f"film{film}.mp4@{start}", CLASSES[start % 3], file=f"films/{film}") for film in range(4) for start in range(3)]
    clips = [row("twice", "Dog"), row("twice", "Cat"), row("copy", "Dog"), row("original", "Dog")]
    folds = make_folds(
        [*films, *clips], FoldSettings(number=3), ["same" if one.clip in ("copy", "original") else None for one in films + clips]
    )
    groups = {clip: place.group for clip, place in folds.clips.items()}
    assert {clip: group for clip, group in groups.items() if "@" in clip} == {one.clip: one.clip[:9] + "@0" for one in films}
    assert (groups["copy"], groups["original"], groups["twice"]) == ("copy", "copy", "twice")


def test_a_file_may_name_the_film_of_its_windows(tmp_path):
    films = [row(f"film{film}.mp4@{start}", "Dog", file=f"films/{film}") for film in range(6) for start in range(2)]
    by = sources(tmp_path / "by.csv", [(f"film{film}.mp4", f"place {film // 2}") for film in range(6)])
    assert make_folds(films, FoldSettings(number=3, by=by)).facts["groups"] == 3


def test_each_fold_is_tested_once_validated_by_another_and_trained_by_the_rest(rows):
    folds = make_folds(rows, FoldSettings(number=4))
    index = pd.DataFrame({"row": range(len(rows)), "clip": [one.clip for one in rows], "split": [one.split for one in rows]})
    before = index.copy()
    splits = pd.DataFrame({fold: folds.index_of(index, fold)["split"] for fold in range(4)})
    assert index.equals(before)
    assert (splits[:60].apply(pd.Series.value_counts, axis=1)[["test", "val", "train"]] == [1, 1, 2]).all().all()
    assert (splits.iloc[60] == "none").all()
    assert (splits.iloc[61] == "negative").all()
    assert ((splits == "test").sum() == 15).all()


def test_classes_that_a_network_never_sees_are_said(rows):
    alone = [*rows, row("solo", "Owl"), row("duet1", "Gong"), row("duet2", "Gong")]
    folds = make_folds(alone, FoldSettings(number=3))
    ahead = (folds.clips["duet2"].fold - folds.clips["duet1"].fold) % 3
    assert ahead != 0  # a class of two clips is shared
    tested = folds.clips["duet1" if ahead == 1 else "duet2"].fold
    assert one_says(folds.facts["health"], "one group", "never saw", "1 (Owl)")
    assert one_says(folds.facts["health"], f"fold {tested}", "without a training clip", "1 (Gong)")


def test_training_clips_without_times_train_in_every_fold(rows):
    weak = [replace(one, events=(), labels=("Dog",)) if one.split == "train" else one for one in rows]
    folds = make_folds(weak, FoldSettings(number=3))
    assert [*folds.clips] == [one.clip for one in weak if one.split in ("val", "test")]
    index = pd.DataFrame({"row": range(len(rows)), "clip": [one.clip for one in rows], "split": [one.split for one in rows]})
    assert all((folds.index_of(index, fold)["split"][index["split"] == "train"] == "train").all() for fold in range(3))
    count = sum(one.split == "train" for one in rows)
    assert one_says(folds.facts["health"], f"{count} training clips", "without times", "every fold", "never tested")
    with pytest.raises(InputProblems, match=r"share a source with training clips.*2 \(clip1, clip2\)"):
        make_folds(weak, FoldSettings(number=3), ["same" if one.clip in ("clip0", "clip1", "clip2") else None for one in rows])


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([(f"clip{number}", f"set {number % 3}") for number in range(60)], ["dataset.folds", "5 folds of 3 groups", "20, 20, 20", "lower"]),
        ([(f"clip{number}", number) for number in range(57)], ["by.csv", "without a line", "3 (clip57, clip58, clip59)"]),
        ([("clip1", ""), ("clip2", "photo")], ["by.csv", "line 2", "empty"]),
    ],
)
def test_files_that_cannot_be_used_are_refused(rows, tmp_path, pairs, words):
    with pytest.raises(InputProblems) as refused:
        make_folds(rows, FoldSettings(number=5, by=sources(tmp_path / "by.csv", pairs)))
    assert says(str(refused.value), *words)


def test_they_are_read_as_they_were_written_and_never_damaged(rows, tmp_path):
    folds = make_folds(rows, FoldSettings(number=5))
    write_folds(folds, tmp_path)
    assert read_folds(tmp_path) == folds
    assert (tmp_path / "folds.csv").read_text(encoding="utf-8").startswith("clip,group,fold\nclip0,clip0,0\n")
    text = (tmp_path / "folds.csv").read_text(encoding="utf-8")
    (tmp_path / "folds.csv").write_text(text.replace("clip3,clip3,", "clip3,clip4,"), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"folds\.csv"):
        read_folds(tmp_path)


def test_without_folds_the_out_says_so(tmp_path):
    write_folds(None, tmp_path)
    assert read_folds(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["folds.json"]


def test_names_of_clips_with_commas_and_quotes_are_kept(tmp_path):
    strange = Folds(3, {'a,"b".mp4': Place('a,"b".mp4', 2), "new\nline": Place("new\nline", 0)}, {"by": None, "groups": 2, "health": []})
    write_folds(strange, tmp_path)
    assert read_folds(tmp_path) == strange


def test_own_films_need_no_split_where_there_are_folds(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "unlabelled.mp4"):
        (clips / name).write_bytes(name.encode())
    labels = tmp_path / "labels.csv"
    labels.write_text("clip,label,onset,offset\na.mp4,Dog,0,1\nb.mp4,Dog,0,1\nc.mp4,,,\n", encoding="utf-8")
    settings = {"kind": "folder", "clips": clips, "annotations": labels, "segments": 10, "segment_seconds": 1.0}
    with pytest.raises(InputProblems, match="split"):
        build_index(DatasetSettings(**settings))
    index = build_index(DatasetSettings(**settings, folds={"number": 3}))
    assert not [line for line in index.health if "split" in line]
    folds = make_folds(index.rows, FoldSettings(number=3))
    assert [*folds.clips] == ["a.mp4", "b.mp4", "c.mp4"]
    assert folds.facts["health"] == [line for line in folds.facts["health"] if "splits" not in line]


def test_realmix_groups_are_the_clips_whose_main_event_shares_a_photo_or_a_recording(shared):
    """suites/realmix-sources.csv against the list of sources beside the clips."""
    rows = pd.read_csv(shared / "realmix" / "sources.csv", dtype=str)
    spans = pd.read_csv(shared / "realmix" / "spans.csv", dtype=str)
    main = dict(spans[spans["main"] == "1"][["id", "class"]].drop_duplicates("id").to_numpy())
    pairs = rows[rows["class"] == rows["id"].map(main)][["id", "file"]].drop_duplicates()
    group = {clip: number for number, clip in enumerate(main)}
    for _ in range(30):  # the lowest number of a group spreads over its sources
        lowest = pairs.assign(group=pairs["id"].map(group)).groupby("file")["group"].min()
        group = pairs.assign(group=pairs["file"].map(lowest)).groupby("id")["group"].min().to_dict()
    stated = read_sources(Path("suites/realmix-sources.csv"))
    assert group.keys() == stated.keys()
    assert len({(group[clip], *stated[clip]) for clip in group}) == len(set(group.values())) == 40
