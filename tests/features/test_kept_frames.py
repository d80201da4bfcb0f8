"""Frames stored by `decode` or decoded again by whoever needs them: the same bytes, and never one entry for the other."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.cache import Cache, file_sha256
from pipeline.contrastive.data import DRAWN, Draw, Item, draw_middle, load_frames
from pipeline.encoders import create
from pipeline.errors import PipelineError
from pipeline.features.extraction import Extraction
from pipeline.features.recipes import recipe
from pipeline.features.room import extraction_room
from pipeline.media import room
from pipeline.media.decoding import decode_clips, load_decoded, load_sound, make_jobs
from pipeline.media.job import KIND, VERDICTS
from pipeline.media.room import decoding_room
from tests.media.conftest import write_clip

VISUAL = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32}
SEGMENTS = 2


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    for number in range(3):
        write_clip(made / f"{number}.mp4", seconds=2.0, size=(48, 64), first_number=30 * number)
    (made / "bad.mp4").write_text("<html>", encoding="utf-8")
    return made


class Work:
    """Both stages on the clips, in a cache of their own."""

    def __init__(self, clips, root, keep):
        how = recipe(VISUAL, "logmel", dtype="float32", device="cpu", segments=SEGMENTS, media={"workers": 1, "keep": keep})
        rows = [{"clip": path.stem, "file": str(path), "sha256": file_sha256(path), "start": 0.0} for path in sorted(clips.iterdir())]
        self.media, self.cache = how.media, Cache(root / "cache")
        self.jobs, _ = make_jobs(pd.DataFrame(rows), SEGMENTS, 1.0, how.media, self.cache)
        self.extraction, self.store = Extraction(how.features, self.jobs, self.cache, 1), root / "store"

    def decode(self):
        return decode_clips(list(self.jobs.values()), [], self.media)

    def extract(self, manifest):
        self.store.mkdir(exist_ok=True)
        summary = self.extraction.run(manifest, self.store)
        return summary, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.store.iterdir()}

    def kinds(self):
        return {path.name for path in self.cache.root.iterdir()}


@pytest.fixture(scope="module")
def kept(clips, tmp_path_factory):
    """Manifest and store where frames are kept."""
    work = Work(clips, tmp_path_factory.mktemp("kept"), "frames")
    manifest = work.decode()
    return manifest, work.extract(manifest)[1]


def test_without_stored_frames_manifest_and_store_are_the_same_bytes(clips, kept, tmp_path):
    work = Work(clips, tmp_path, "verdicts")
    manifest = work.decode()
    pd.testing.assert_frame_equal(manifest, kept[0])
    assert work.kinds() == {VERDICTS}
    arrays, _ = work.cache.get(VERDICTS, work.jobs["0"].key)
    assert set(arrays) == {"waveform"}
    summary, store = work.extract(manifest)
    assert "3 encoded" in summary
    assert store == kept[1]
    assert work.kinds() == {VERDICTS, "features"}


def test_clips_decoded_and_encoded_at_once_are_decoded_once(clips, kept, tmp_path):
    work = Work(clips, tmp_path / "work", "verdicts")
    copies = tmp_path / "clips"
    copies.mkdir()
    for path in clips.iterdir():
        (copies / path.name).write_bytes(path.read_bytes())
    work = Work(copies, tmp_path / "work", "verdicts")
    manifest = work.extraction.decode([], work.media)
    assert work.kinds() == {VERDICTS, "features"}
    for path in copies.iterdir():
        path.unlink()  # nobody needs them any more
    pd.testing.assert_frame_equal(manifest.drop(columns="file"), kept[0].drop(columns="file"), check_like=True)
    summary, store = work.extract(manifest)
    assert "0 encoded" in summary
    assert store == kept[1]


def test_a_verdict_is_no_entry_with_frames_and_one_with_frames_is_used(clips, kept, tmp_path):
    Work(clips, tmp_path, "verdicts").decode()
    unread = Work(clips, tmp_path, "auto")  # `auto` itself stores frames only of clips that it decodes
    unread.decode()
    assert unread.kinds() == {VERDICTS}
    work = Work(clips, tmp_path, "frames")
    manifest = work.decode()
    assert work.kinds() == {VERDICTS, KIND}
    assert not work.cache.has(KIND, work.jobs["bad"].key)  # its verdict is all there is of it
    elsewhere = {clip: replace(job, file="/nowhere") for clip, job in work.jobs.items()}
    work.extraction.jobs.update(elsewhere)
    assert work.extract(manifest)[1] == kept[1]


def test_frames_drawn_once_are_kept_and_others_are_not(clips, tmp_path):
    work = Work(clips, tmp_path, "verdicts")
    work.decode()
    job, encoder = work.jobs["1"], create("timm", **{key: value for key, value in VISUAL.items() if key != "encoder"})
    frames, waveform, rate = load_decoded(work.cache, "1", job.key, job)
    middle = draw_middle(Item(job, (0, 1)))
    other = Draw(middle.item, (1,), (2,))
    read = [load_frames(work.cache, encoder, draw).numpy() for draw in (middle, other)]
    assert work.kinds() == {VERDICTS, DRAWN}
    [entry] = (work.cache.root / DRAWN).rglob("*.npz")
    assert frames[[1, 3]].nbytes < entry.stat().st_size < frames.nbytes
    broken = Item(replace(job, file="/nowhere"), (0, 1))
    np.testing.assert_array_equal(load_frames(work.cache, encoder, draw_middle(broken)).numpy(), read[0])
    with pytest.raises(PipelineError, match=r"clip '1'.*\n?.*missing"):
        load_frames(work.cache, encoder, Draw(broken, (1,), (2,)))
    sound, heard_at = load_sound(work.cache, "1", job.key, broken.job)
    np.testing.assert_array_equal(sound, waveform)
    assert heard_at == rate


def size_of(directory, kinds):
    return sum(path.stat().st_size for kind in kinds for path in (directory / kind).rglob("*.npz"))


@pytest.mark.parametrize("keep", ["frames", "verdicts"])
def test_what_is_said_to_be_written_is_what_is_written_and_what_is_there_needs_no_room(keep, clips, tmp_path):
    work = Work(clips, tmp_path, keep)
    jobs, [said] = decoding_room(work.jobs, work.cache)
    assert jobs == work.jobs
    assert ("media.keep: verdicts" in " ".join(said.smaller)) == (keep == "frames")
    manifest = work.decode()
    assert said.size == pytest.approx(size_of(work.cache.root, [KIND, VERDICTS]), rel=0.1)
    assert decoding_room(work.jobs, work.cache)[1][0].size == 0
    told = []

    def announce(stored, missing):
        spec = work.extraction.plan.spec(stored[0].job)
        told.extend(extraction_room("mine", work.extraction.encoder, spec, stored, missing, work.store))

    work.store.mkdir()
    work.extraction.run(manifest, work.store, announce)
    features, store = told
    # an entry of a few numbers is mostly its frame: what is said of it is a bound
    assert size_of(work.cache.root, ["features"]) <= features.size <= size_of(work.cache.root, ["features"]) + 3 * 2 * 4096
    assert store.size == sum(path.stat().st_size - 128 for path in work.store.glob("*.npy"))
    assert "features.mine.dtype: float16 (half)" in features.smaller


def test_auto_keeps_frames_only_while_they_take_less_than_a_tenth_of_what_is_free(clips, tmp_path, monkeypatch):
    work = Work(clips, tmp_path, "auto")
    frames = 3 * 4 * 48 * 64 * 3  # of three clips; the fourth is none
    for free, kept in ((10 * frames - 1, "verdicts"), (10 * frames + 1, "auto")):
        monkeypatch.setattr(room, "room_of", lambda _, free=free: free)
        jobs, _ = decoding_room(work.jobs, work.cache)
        assert {job.settings.keep for job in jobs.values()} == {kept}
        assert {job.key for job in jobs.values()} == {job.key for job in work.jobs.values()}
