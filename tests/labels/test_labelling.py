"""A label set: its labels against the rule in plain loops, the features in it, and what is refused before any work."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import InputProblems, PipelineError
from pipeline.features.store import FeatureStore
from pipeline.labels.label_set import make_labels
from pipeline.labels.labelling import Labelling
from pipeline.labels.settings import LabelSet
from pipeline.labels.streams import STREAMS, without_labels
from pipeline.labels.texts import read_texts, write_texts
from pipeline.labels.valor import VALOR
from tests.labels.conftest import CLASSES, LENGTHS, SEGMENTS, SPLITS, TOLD, rows, text_table, written
from tests.wording import each_says, one_says, says

HEARD = {"Dog": ["Bark"], "Cat": ["Meow", "Silence"], "Car": []}


def settings(stores, texts, **changes) -> LabelSet:
    visual = {"texts": texts, "thresholds": {"Cat": -1.0, "Dog": 2.0, "Car": 0.5}, "temperature": 1.5}
    audio = {"class_names": stores.root / "names.csv", "classes": HEARD, "thresholds": 0.6, "never": ["Cat"]}
    return LabelSet(**{"features": "features", "teachers": "teachers", "audio": audio, "visual": visual, **changes})


def labelled(stores, chosen, directory="made"):
    labelling = Labelling("made", chosen, stores.features, stores.teachers, rows(), CLASSES)
    (stores.root / directory).mkdir()
    return (*make_labels(labelling, stores.root / directory), FeatureStore(stores.root / directory))


def test_labels_follow_the_rule(stores, texts):
    scores, lines, store = labelled(stores, settings(stores, texts))
    table = read_texts(texts)
    heard, seen = (stores.teachers.read(modality, list("abcde")) for modality in ("audio", "visual"))
    streams = {stream: store.read(stream, list("abcde")) for stream in STREAMS}
    on = []
    for place in np.ndindex(5, SEGMENTS, 3):
        clip, segment, number = place
        name, label = "abcde"[clip], CLASSES[number]
        possible = label in TOLD[name] and segment < LENGTHS[name]
        vector = seen[clip, segment]
        score = 10.0 * float(vector @ table.embeddings[number]) / float(np.linalg.norm(vector))
        threshold = {"Cat": -1.0, "Dog": 2.0, "Car": 0.5}[label]
        assert streams["visual_labels"][place] == (possible and score > threshold)
        soft = possible / (1 + np.exp(-(score - threshold) / 1.5))
        assert streams["visual_soft_labels"][place] == pytest.approx(soft, abs=1e-5)
        chance = {"Dog": heard[clip, segment, 0], "Cat": 0.0, "Car": 1.0}[label]  # Cat is never on, nothing tells of cars
        assert streams["audio_labels"][place] == (possible and chance > 0.6)
        logit = np.log(chance / (1 - chance)) - np.log(0.6 / 0.4) if label == "Dog" else (-np.inf if label == "Cat" else np.inf)
        assert streams["audio_soft_labels"][place] == pytest.approx(possible / (1 + np.exp(-logit / 2)), abs=1e-5)
        on.append(bool(streams["visual_labels"][place]) if possible else None)
    assert {True, False} <= set(on)
    assert one_says(lines, "audio", "no counterpart", "Car")
    assert one_says(lines, "audio", "never", "Cat")
    assert set(scores) == {"val", "test"}  # no truth of the training clip is known


def test_the_features_are_those_that_the_set_names(stores, texts):
    _, _, store = labelled(stores, settings(stores, texts))
    for modality in ("visual", "audio"):
        np.testing.assert_array_equal(store.read(modality, list("edcba")), stores.features.read(modality, list("edcba")))
        for shard in range(3):
            name = f"{modality}-{shard:03d}.npy"
            assert (store.directory / name).samefile(stores.features.directory / name)  # no byte is stored twice
    assert store.valid(list("abcde")).tolist() == stores.features.valid(list("abcde")).tolist()
    assert without_labels(store.spec) == stores.features.spec
    assert without_labels(stores.features.spec) is stores.features.spec
    assert {f"{stream}_key" for stream in STREAMS} < set(store.index.columns)


def test_quality_is_that_of_the_labels_beside_the_clip_s_own(stores, texts):
    scores, _, store = labelled(stores, settings(stores, texts))
    clips = [clip for clip, split in SPLITS.items() if split == "val"]
    truth = {"audio": np.zeros((3, SEGMENTS, 3), bool)}
    truth["audio"][0, 0:2, 0] = truth["audio"][1, 0, 2] = truth["audio"][2, 2:4, 1] = True
    told = store.read("audio_labels", clips) > 0
    valid = store.valid(clips)[..., None]
    everywhere = np.array([[label in TOLD[clip] for label in CLASSES] for clip in clips])[:, None] & valid
    for answer, name in ((told, "labels"), (everywhere, "clip_label")):
        right = (answer & truth["audio"]).sum()
        rates = scores["val"][name]["audio"]
        assert rates["precision"] == pytest.approx(100 * right / answer.sum())
        assert rates["recall"] == pytest.approx(100 * right / truth["audio"].sum())
        assert rates["f1"] == pytest.approx(200 * right / (answer.sum() + truth["audio"].sum()))
    lines = (store.directory / "quality.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 2 * 2 * 3  # splits, modalities, classes


def test_searched_thresholds_say_that_dense_labels_were_used(stores, texts):
    searching = settings(stores, texts, visual={"texts": texts, "thresholds": "searched"})
    scores, lines, store = labelled(stores, searching)
    assert "visual" in store.spec["labels"]["dense_labels"]
    assert one_says(lines, "visual", "dense labels")
    assert scores["val"]["labels"]["visual"]["f1"] >= scores["val"]["clip_label"]["visual"]["f1"]
    _, _, plain = labelled(stores, settings(stores, texts), "plain")
    assert "dense_labels" not in plain.spec["labels"]


def test_a_background_needs_no_dense_labels(stores, texts):
    """Of training there is one clip, without Cat and Car."""
    chosen = settings(stores, texts, visual={"texts": texts, "thresholds": "background", "background": 0.5})
    _, _, store = labelled(stores, chosen)
    told = store.spec["labels"]["visual"]["thresholds"]
    vectors = stores.teachers.read("visual", ["a"])[0]
    cosines = vectors @ read_texts(texts).embeddings.T / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert told["Dog"] is None
    assert [told["Cat"], told["Car"]] == pytest.approx(np.median(10 * cosines, axis=0)[1:].tolist(), abs=1e-5)
    assert "dense_labels" not in store.spec["labels"]


def test_a_clip_that_the_teachers_lack_keeps_its_labels_and_too_many_are_refused(stores, texts):
    stores.teachers = written(stores.root / "fewer", {"visual": [5], "audio": [4]}, clips="abce", seed=1)
    with pytest.raises(InputProblems) as caught:
        labelled(stores, settings(stores, texts))
    assert each_says(caught.value.problems, [("labels.made.teachers", "1 (d)", "max_missing_fraction")])
    _, lines, store = labelled(stores, settings(stores, texts, max_missing_fraction=0.5), "other")
    assert store.read("visual_labels", ["d"])[0].tolist() == [[1, 1, 0]] * 4
    assert store.read("audio_soft_labels", ["d"])[0].tolist() == [[1, 0, 0]] * 4  # Cat is never on
    assert one_says(lines, "1 clips", "teachers lack them")


def test_everything_that_does_not_fit_is_told_at_once(stores, tmp_path):
    other = tmp_path / "order.npz"
    write_texts(other, text_table(["Cat", "Dog", "Car"], width=7))
    names = stores.root / "names.csv"
    audio = {"class_names": names, "classes": {"Dog": ["Brk"], "Cat": []}, "thresholds": {"Dog": 0.1, "Cow": 0.2}, "never": ["Horse"]}
    chosen = LabelSet(features="features", teachers="teachers", audio=audio, visual={"texts": other, "thresholds": "valor"})
    with pytest.raises(InputProblems) as caught:
        labelled(stores, chosen)
    expected = [
        ("labels.made.audio.classes", "no entry", "Car"),
        ("labels.made.audio.classes.Dog", "'Brk'", "Bark"),
        ("labels.made.audio.thresholds", "no entry", "Cat, Car"),
        ("labels.made.audio.thresholds", "Cow"),
        ("labels.made.audio.never", "Horse"),
        ("labels.made.visual.texts", str(other), "order", "number 1", "'Cat'", "'Dog'"),
        ("labels.made.visual.thresholds", "LLP"),
    ]
    assert each_says(caught.value.problems, expected)
    assert not (stores.root / "made").exists()


def test_texts_of_another_width_and_thresholds_of_another_checkpoint_are_named(stores, tmp_path, texts):
    write_texts(tmp_path / "wide.npz", text_table(width=7))
    visual = {"texts": tmp_path / "wide.npz", "thresholds": 1.0, "weights": "0123456789ab"}
    with pytest.raises(InputProblems) as caught:
        labelled(stores, settings(stores, texts, visual=visual))
    expected = [("labels.made.visual", "(5,)", "7", "wide.npz"), ("labels.made.visual.weights", "0123456789ab", "visual0123456789")]
    assert each_says(caught.value.problems, expected)


def test_clap_s_texts_and_sounds_are_of_one_checkpoint(stores, tmp_path):
    write_texts(tmp_path / "clap.npz", text_table(width=4, weights="a" * 64, model="other"))
    chosen = LabelSet(features="features", teachers="teachers", audio={"texts": tmp_path / "clap.npz", "thresholds": 1.0})
    stores.teachers.spec["encoders"]["audio"] = {"encoder": "clap", "weights": {"folder": "c" * 64, "weights": "b" * 64}}
    with pytest.raises(InputProblems) as caught:
        labelled(stores, chosen)
    assert each_says(caught.value.problems, [("labels.made.audio.texts", "other", "a" * 16, "b" * 16)])
    write_texts(tmp_path / "clap.npz", text_table(width=4, weights="b" * 64))
    labelled(stores, chosen)


def test_valor_s_thresholds_are_for_its_checkpoint_and_prompts(stores, tmp_path):
    llp = list(VALOR["audio"].thresholds)
    prompts = tuple(VALOR["audio"].prompts.values())
    write_texts(tmp_path / "clap.npz", text_table(llp, 4, prompts=("a dog", *prompts[1:]), scale=18.6, model="clap-htsat-fused"))
    chosen = LabelSet(features="features", teachers="teachers", audio={"texts": tmp_path / "clap.npz", "thresholds": "valor"})
    with pytest.raises(InputProblems) as caught:
        Labelling("made", chosen, stores.features, stores.teachers, rows()[:0], llp)
    assert each_says(caught.value.problems, [("630k-fusion-best", "26.87", "clap-htsat-fused", "18.6"), ("prompts", "Speech")])
    write_texts(tmp_path / "clap.npz", text_table(llp, 4, prompts=prompts, scale=26.87))
    Labelling("made", chosen, stores.features, stores.teachers, rows()[:0], llp)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"no table", ("not a text table",)),
        ({"embeddings": np.ones((2, 5))}, ("2", "3 classes")),
        ({"embeddings": np.full((3, 5), np.nan)}, ("not finite",)),
        ({"scale": np.float64(0)}, ("scale",)),
        ({"weights": None}, ("weights",)),
    ],
)
def test_a_file_that_is_no_text_table_says_why(tmp_path, content, parts):
    path = tmp_path / "texts.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        whole = {"embeddings": np.ones((3, 5)), "classes": CLASSES, "prompts": CLASSES, "scale": 1.0, "model": "m", "weights": "w"}
        np.savez(path, **{key: value for key, value in (whole | content).items() if value is not None})
    with pytest.raises(ValueError, match="texts") as caught:
        read_texts(path)
    assert one_says([str(caught.value)], str(path), *parts)


def test_damaged_features_do_not_get_into_a_label_set(stores, texts):
    """The set's checksums are those of its files: made of a damaged one, they would call it whole."""
    shard = stores.features.directory / "audio-000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        labelled(stores, settings(stores, texts))
    assert says(str(caught.value), "features/audio-000.npy", "damaged")


def test_thresholds_read_a_few_clips_at_a_time(stores, texts, monkeypatch):
    """The teachers' outputs of all training clips may be larger than memory; the scores of their classes are not."""
    monkeypatch.setattr("pipeline.labels.labelling.BLOCK", 2)
    index, texts_alone = rows().assign(split="train"), {"texts": texts, "thresholds": "background"}
    labelling = Labelling("made", settings(stores, texts, visual=texts_alone), stores.features, stores.teachers, index, CLASSES)
    read, taken = stores.teachers.read_entries, []
    monkeypatch.setattr(stores.teachers, "read_entries", lambda modality, entries: taken.append(len(entries)) or read(modality, entries))
    labelling.thresholds("visual")
    assert taken == [2, 2, 1]
