import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import encoders
from pipeline.cache import Cache, CacheError
from pipeline.errors import PipelineError
from pipeline.features import clip_encoder
from pipeline.features.clip_encoder import ClipEncoder
from pipeline.features.engines.local import ThisProcess
from pipeline.features.extraction import Extraction
from pipeline.features.settings import FeatureSet
from pipeline.features.store import FeatureStore
from pipeline.machine import UNKNOWN, this_machine
from pipeline.media.job import KIND, Job
from pipeline.media.settings import MediaSettings
from tests.wording import says

SEGMENTS, FRAMES, RATE = 3, 2, 16000
VISUAL = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32, "pool": "average"}
WIDTH = 96
SETTINGS = FeatureSet.model_validate(
    {"visual": VISUAL, "audio": {"encoder": "logmel"}, "dtype": "float16", "batch_size": 4, "device": "cpu"}
)


def changed(**settings):
    return FeatureSet.model_validate({**SETTINGS.model_dump(), **settings})


class World:
    """Decoded clips in a cache, as the decode stage leaves them."""

    def __init__(self, root, contents=(0, 1, 2, 3)):
        self.cache = Cache(root)
        self.jobs: dict[str, Job] = {}
        self.verdicts: list[dict] = []
        for content in contents:
            self.add(f"clip{len(self.jobs)}", content)

    def add(self, clip, content, status="ok", seconds=3.0):
        job = Job(clip, f"{clip}.mp4", f"{content:064x}", 0.0, SEGMENTS, 1.0, MediaSettings(), self.cache.root)
        self.jobs[clip] = job
        self.cache.put(KIND, job.key, self.arrays(content), {"sample_rate": RATE})
        facts = {"clip": clip, "key": job.key, "status": status, "seconds": seconds}
        self.verdicts.append({**facts, "visual_valid": [True] * SEGMENTS, "audio_valid": [status != "silent"] * SEGMENTS})

    @staticmethod
    def arrays(content):
        rng = np.random.default_rng(content)
        return {
            "frames": rng.integers(0, 256, (SEGMENTS * FRAMES, 40, 48, 3), dtype=np.uint8),
            "waveform": rng.normal(0, 0.1, SEGMENTS * RATE).astype(np.float32),
        }

    def extract(self, directory, settings=SETTINGS, workers=2):
        directory.mkdir()
        return Extraction(settings, self.jobs, self.cache, workers).run(pd.DataFrame(self.verdicts), directory)

    def bytes(self, directory):
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_features_are_the_encoders_output_averaged_over_the_frames_of_a_segment(tmp_path):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "store")
    store = FeatureStore(tmp_path / "store")
    assert store.shapes == {"visual": (WIDTH,), "audio": (128,)}
    visual = encoders.create("timm", **SETTINGS.visual.options)
    audio = encoders.create("logmel")
    for number in range(4):
        arrays = world.arrays(number)
        with torch.inference_mode():
            single = [visual.encode(visual.prepare(torch.from_numpy(frame[None]))) for frame in arrays["frames"]]
            of_audio = audio.encode(audio.prepare(torch.from_numpy(arrays["waveform"]), RATE, SEGMENTS, 1.0))
        expected = torch.cat(single).view(SEGMENTS, FRAMES, WIDTH).double().mean(1).numpy()
        np.testing.assert_allclose(store.read("visual", [f"clip{number}"])[0], expected, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(store.read("audio", [f"clip{number}"])[0], of_audio.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.fault(6)
def test_bad_clips_are_left_out_and_counted_and_short_clips_are_masked(tmp_path):
    world = World(tmp_path / "cache")
    world.add("short", 7, status="padded", seconds=1.5)
    world.add("broken", 8, status="truncated")
    message = world.extract(tmp_path / "store")
    store = FeatureStore(tmp_path / "store")
    assert "broken" not in store
    assert store.valid(["clip0", "short"]).tolist() == [[True, True, True], [True, True, False]]
    assert says(message, "5 clips stored, 5 encoded, 1 left out")


@pytest.mark.fault(19)
def test_an_interrupted_extraction_loses_no_finished_clip_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    whole = World(tmp_path / "whole")
    whole.extract(tmp_path / "expected")
    world = World(tmp_path / "cache")
    store, seen = ClipEncoder.store, []

    def interrupted(self, part):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(part.clip.job.clip)
        store(self, part)

    monkeypatch.setattr(ClipEncoder, "store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.extract(tmp_path / "half")
    monkeypatch.setattr(ClipEncoder, "store", store)
    stored = set(seen)
    finished = sum(seen.count(clip) == 2 for clip in stored)
    assert 1 <= finished <= 2
    assert world.extract(tmp_path / "resumed").startswith(f"4 clips stored, {4 - finished} encoded")
    assert world.bytes(tmp_path / "resumed") == world.bytes(tmp_path / "expected")


@pytest.mark.fault(12)
def test_one_more_clip_is_one_more_encoding_and_equal_bytes_are_encoded_once(tmp_path):
    world = World(tmp_path / "cache", contents=(0, 1, 1))
    assert world.extract(tmp_path / "a").startswith("3 clips stored, 2 encoded")
    world.add("new", 5)
    assert world.extract(tmp_path / "b").startswith("4 clips stored, 1 encoded")
    store = FeatureStore(tmp_path / "b")
    np.testing.assert_array_equal(store.read("visual", ["clip1"]), store.read("visual", ["clip2"]))


def test_changing_one_encoder_keeps_the_features_of_the_other(tmp_path, monkeypatch):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "a")
    made = []
    store = ClipEncoder.store
    monkeypatch.setattr(ClipEncoder, "store", lambda self, part: (made.append(part.modality), store(self, part)))
    world.extract(tmp_path / "b", changed(visual={**VISUAL, "crop": False}))
    assert made == ["visual"] * 4


@pytest.mark.fault(23)
def test_a_damaged_cache_entry_is_made_again(tmp_path):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "a")
    for path in (world.cache.root / "features").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-20])
    world.extract(tmp_path / "b")
    assert world.bytes(tmp_path / "a") == world.bytes(tmp_path / "b")


@pytest.mark.fault(36)
def test_features_that_do_not_fit_the_dtype_stop_with_the_clips_name(tmp_path, monkeypatch):
    world = World(tmp_path / "cache", contents=(0,))
    logmel = encoders.ENCODERS.get("logmel")
    monkeypatch.setattr(logmel, "encode", lambda self, batch: torch.full((len(batch), 128), 1e5))
    words = r"clip 'clip0'.*audio.*float16.*1e\+05.*dtype: float32"
    with np.errstate(over="ignore"), pytest.raises(PipelineError, match=words):
        world.extract(tmp_path / "a")
    monkeypatch.setattr(logmel, "encode", lambda self, batch: torch.full((len(batch), 128), float("inf")))
    with pytest.raises(PipelineError, match=r"float16.*\binf\b(?!.*dtype: )"):
        world.extract(tmp_path / "b")


@pytest.mark.parametrize(("part", "encoder"), [("prepare", "encoder logmel"), ("encode", "audio encoder")])
@pytest.mark.fault(30)
def test_a_clip_that_an_encoder_fails_on_is_named(tmp_path, monkeypatch, part, encoder):
    """Errors meant for the user name it in the message, others in a note; a pass mixes clips, so all of them are named."""
    world, logmel = World(tmp_path / "cache", contents=(0,)), encoders.ENCODERS.get("logmel")
    for number, (error, text) in enumerate([(PipelineError("odd"), ": odd"), (IndexError("odd"), "")]):
        monkeypatch.setattr(logmel, part, lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)) as caught:
            world.extract(tmp_path / str(number), workers=1)
        assert f"clip 'clip0': {encoder}{text}" == str(caught.value) if text else caught.value.__notes__ == [f"{encoder}, at clip 'clip0'"]


@pytest.mark.fault(30)
def test_a_clip_that_vanished_from_cache_and_disk_is_named(tmp_path):
    world = World(tmp_path / "cache", contents=(0,))
    world.cache.path(KIND, world.jobs["clip0"].key).unlink()
    with pytest.raises(PipelineError, match="clip 'clip0'"):
        world.extract(tmp_path / "a")


@pytest.mark.parametrize("fault", [CacheError("the cache entry x cannot be read"), MemoryError("9 TB"), OSError("Input/output error")])
@pytest.mark.fault(30)
def test_any_error_of_a_loading_thread_names_its_clip(tmp_path, monkeypatch, fault):
    """The third of four clips fails while others are loaded: the original error ends the extraction."""
    world, read = World(tmp_path / "cache"), Cache.get
    third = world.jobs["clip2"].key

    def get(self, kind, key):
        if key == third:
            raise fault
        return read(self, kind, key)

    monkeypatch.setattr(Cache, "get", get)
    with pytest.raises(PipelineError if isinstance(fault, PipelineError) else type(fault)) as caught:
        world.extract(tmp_path / "store")
    told = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert any("clip 'clip2'" in line and "decoded" in line for line in told), told
    assert str(fault) in told[0]


@pytest.mark.fault(34)
def test_bytes_depend_on_the_clip_alone(tmp_path):
    """Not on workers, neighbours, order or the cache's content. A pass of 4 rows spans clips of 6 frames and 3 sounds."""
    settings = changed(dtype="float32")  # every last bit
    world = World(tmp_path / "all", contents=range(5))
    world.extract(tmp_path / "expected", settings, workers=1)
    expected = FeatureStore(tmp_path / "expected")

    more = World(tmp_path / "three", contents=range(5))
    more.extract(tmp_path / "three_workers", settings, workers=3)
    assert more.bytes(tmp_path / "three_workers") == world.bytes(tmp_path / "expected")

    some = World(tmp_path / "some", contents=(3,))
    some.extract(tmp_path / "first", settings)
    for content in (4, 1, 9, 0):
        some.add(f"clip{len(some.jobs)}", content)
    some.extract(tmp_path / "then", settings)
    store = FeatureStore(tmp_path / "then")
    for modality in ("visual", "audio"):
        ours, theirs = (
            store.read(modality, ["clip0", "clip1", "clip2", "clip4"]),
            expected.read(modality, [f"clip{n}" for n in (3, 4, 1, 0)]),
        )
        assert ours.tobytes() == theirs.tobytes()
        assert len({row.tobytes() for row in ours}) == 4


@pytest.mark.processor
def test_bfloat16_has_its_own_entries_and_nearly_the_same_numbers(tmp_path):
    world = World(tmp_path / "cache")
    world.extract(tmp_path / "a", changed(dtype="float32"))
    assert world.extract(tmp_path / "b", changed(dtype="float32", precision="bfloat16")).startswith("4 clips stored, 4 encoded")
    stores = [FeatureStore(tmp_path / name) for name in "ab"]
    full, half = (store.read("visual", ["clip0", "clip1"]) for store in stores)
    assert not np.array_equal(full, half)
    assert np.corrcoef(full.ravel(), half.ravel())[0, 1] > 0.999
    assert [store.spec["precision"] for store in stores] == ["float32", "bfloat16"]


def test_frames_are_kept_apart_if_the_encoder_is_set_to(tmp_path):
    world = World(tmp_path / "cache", contents=(0, 1))
    world.extract(tmp_path / "kept", changed(dtype="float32", visual={**VISUAL, "frames": "keep"}))
    world.extract(tmp_path / "mean", changed(dtype="float32"))
    kept, mean = (FeatureStore(tmp_path / name) for name in ("kept", "mean"))
    assert kept.shapes["visual"] == (FRAMES, WIDTH)
    every = kept.read("visual", ["clip0", "clip1"])
    assert every.shape == (2, SEGMENTS, FRAMES, WIDTH)
    assert np.abs(every[:, :, 0] - every[:, :, 1]).max() > 1e-3
    np.testing.assert_allclose(every.mean(2), mean.read("visual", ["clip0", "clip1"]), rtol=1e-5, atol=1e-6)


@pytest.mark.fault(27)
def test_running_out_of_memory_halves_the_pass_and_keeps_the_numbers(tmp_path, monkeypatch, capsys):
    World(tmp_path / "whole").extract(tmp_path / "a")
    network, sizes = encoders.ENCODERS.get("timm"), []
    encode = network.encode

    def small(self, batch):
        if batch.any():  # not the black frame by which the encoder learns its shape
            sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(self, batch)

    monkeypatch.setattr(network, "encode", small)
    monkeypatch.setattr(network, "traceable", False)  # every pass is to be counted, not only the one that is traced
    World(tmp_path / "tight").extract(tmp_path / "b", workers=1)
    stores = [FeatureStore(tmp_path / name) for name in "ab"]
    first, second = (store.read("visual", [f"clip{n}" for n in range(4)]) for store in stores)
    np.testing.assert_allclose(first, second, rtol=2e-3, atol=1e-3)  # float16's rounding
    assert sizes == [4, 2] + [1] * 24
    assert says(capsys.readouterr().out, "4 rows", "memory", "cpu", "2")


def test_few_clips_are_held_ahead_of_the_encoder(tmp_path, monkeypatch):
    loaded, finished, most = [], [], []
    prepare, store = ClipEncoder.prepare, ClipEncoder.store
    monkeypatch.setattr(ClipEncoder, "prepare", lambda self, clip: (loaded.append(clip), prepare(self, clip))[1])

    def watched(self, part):
        store(self, part)
        finished.append(part)
        most.append(len(loaded) - len(finished) / 2)

    monkeypatch.setattr(ClipEncoder, "store", watched)
    world = World(tmp_path / "cache", contents=range(24))
    world.extract(tmp_path / "a", changed(batch_size=2), workers=2)
    assert len(finished) == 48
    assert max(most) <= 8  # 3 loaded ahead, 4 passes of 2 rows waiting, what is in hand


def test_a_store_filled_from_the_cache_of_two_machines_names_both(tmp_path, monkeypatch):
    """If one machine made everything, only that one is named, whatever else is in the cache."""
    other = {"processor": "AMD EPYC 7B13", "threads": 1}
    world = World(tmp_path / "cache", contents=(0, 1))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(clip_encoder, "this_machine", lambda device: other)
        world.extract(tmp_path / "before")
    world.add("clip2", 2)
    extraction = Extraction(SETTINGS, world.jobs, world.cache, 1)
    (tmp_path / "mixed").mkdir()
    extraction.run(pd.DataFrame(world.verdicts), tmp_path / "mixed")
    here = [machine for machine in extraction.machines if machine != other]
    assert extraction.machines == [other, *here]
    assert [(machine["threads"], machine["processor"]) for machine in here] == [(1, this_machine()["processor"])]
    alone = World(tmp_path / "own", contents=(0, 1))
    extraction = Extraction(SETTINGS, alone.jobs, alone.cache, 2)
    (tmp_path / "own-store").mkdir()
    extraction.run(pd.DataFrame(alone.verdicts), tmp_path / "own-store")
    assert extraction.machines == here


def test_an_entry_of_an_earlier_version_has_an_unknown_machine(tmp_path):
    world = World(tmp_path / "cache", contents=(0,))
    extraction = Extraction(SETTINGS, world.jobs, world.cache, 1)
    for clip in extraction.plan.clips(pd.DataFrame(world.verdicts)):
        for modality, shape in (("visual", (3, WIDTH)), ("audio", (3, 128))):
            world.cache.put(clip_encoder.KIND, clip.keys[modality], {"features": np.zeros(shape, np.float16)})
    (tmp_path / "store").mkdir()
    extraction.run(pd.DataFrame(world.verdicts), tmp_path / "store")
    assert extraction.machines == [UNKNOWN]


def test_the_time_spent_is_reported(tmp_path, capsys):
    World(tmp_path / "cache").extract(tmp_path / "a")
    line = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(r"extract: 4 clips .* clips/s.* \d+ % of 2\b.* \d+ % of 2\b.*(decode|encode)-bound", line)


def test_another_engine_fills_the_same_store(tmp_path):
    """The engine encodes the clips one by one, last first, as an engine on other machines might."""

    class OneByOne:
        def __init__(self, encoder):
            self.inner, self.asked, self.lost = ThisProcess(encoder, 1), [], {}

        def encode(self, clips, bar=True):
            self.asked += [clip.job.clip for clip in clips]
            return [self.inner.encode([clip], bar) for clip in reversed(clips)][-1]

    world, other = World(tmp_path / "cache"), World(tmp_path / "other")
    world.extract(tmp_path / "expected")
    extraction = Extraction(SETTINGS, other.jobs, other.cache, engine=OneByOne)
    (tmp_path / "store").mkdir()
    extraction.run(pd.DataFrame(other.verdicts), tmp_path / "store")
    assert extraction.engine.asked == [f"clip{number}" for number in range(4)]
    assert other.bytes(tmp_path / "store") == world.bytes(tmp_path / "expected")


class GivesUp(ThisProcess):
    """An engine whose workers die of one clip."""

    def __init__(self, encoder):
        super().__init__(encoder, 1)

    def encode(self, clips, bar=True):
        self.lost = {clip.job.key: "its worker died" for clip in clips if clip.job.clip == "clip2"}
        return super().encode([clip for clip in clips if clip.job.key not in self.lost], bar)


@pytest.mark.parametrize(("limit", "outcome"), [(0.25, "stored"), (0.2, "refused")])
def test_a_clip_that_an_engine_gives_up_is_left_out_and_named_unless_too_many_are(tmp_path, limit, outcome):
    world = World(tmp_path / "cache")
    world.jobs = {clip: replace(job, settings=MediaSettings(max_bad_fraction=limit)) for clip, job in world.jobs.items()}
    extraction = Extraction(SETTINGS, world.jobs, world.cache, engine=GivesUp)
    (tmp_path / "store").mkdir()
    if outcome == "refused":
        with pytest.raises(PipelineError, match=r"1 of 4 .*max_bad_fraction = 0\.2.*clip2 \(its worker died\)"):
            extraction.run(pd.DataFrame(world.verdicts), tmp_path / "store")
        return
    said = extraction.run(pd.DataFrame(world.verdicts), tmp_path / "store")
    assert says(said, "3 clips stored, 3 encoded", "clip2 (its worker died)")
    assert list(pd.read_parquet(tmp_path / "store" / "index.parquet")["clip"]) == ["clip0", "clip1", "clip3"]
