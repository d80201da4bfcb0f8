"""The work with a GPU's streams, on the CPU: the same scheduling, and copies that happen only when something waits for them."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import encoders
from pipeline.cache import Cache
from pipeline.errors import PipelineError
from pipeline.features import clip_encoder
from pipeline.features.card import QUEUED, Card
from pipeline.features.clip_encoder import ClipEncoder
from pipeline.features.engines.local import ThisProcess
from pipeline.features.extraction import Extraction
from pipeline.features.passes import PassEncoder, arithmetic
from pipeline.features.store import FeatureStore
from pipeline.media import decoding
from pipeline.media.settings import MediaSettings
from tests.features.test_extraction import SETTINGS, World, changed
from tests.wording import says

ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
WHOLE = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # see tests/encoders/test_resampling.py


@dataclass(eq=False)
class Stream:
    """Copies that wait, in order; ``behind`` is the last mark of the computing stream that they wait for."""

    queue: list = field(default_factory=list)
    done: int = 0
    behind: int = 0

    def advance(self, place: int) -> None:
        with torch.inference_mode():  # the copies write to tensors that were made in it
            while self.done < place:
                self.queue[self.done]()
                self.done += 1


class Queues:
    """A device whose passes compute at once, on the CPU, and whose copies are late: before they are waited for they hold nonsense."""

    def __init__(self) -> None:
        self.compute, self.pinned, self.log = Stream(), set(), []
        self.lock = threading.Lock()

    def stream(self):
        return Stream()

    def computing(self):
        return self.compute

    def mark(self, stream):
        if stream is self.compute:
            stream.queue.append(lambda: self.log.append("computed"))
        return stream, len(stream.queue)

    def after(self, stream, mark):
        other, place = mark
        if stream is self.compute:
            other.advance(place)
        elif other is self.compute:
            stream.behind = place

    def reach(self, mark):
        mark[0].advance(mark[1])

    def seconds(self, first, second):
        assert all(stream.done >= place for stream, place in (first, second)), "only marks that are reached have a time"
        return 0.25

    def pin(self, tensor):
        with self.lock:
            copy = tensor.clone()
            self.pinned.add(copy.untyped_storage().data_ptr())
        return copy

    def upload(self, tensor, stream, user):
        assert tensor.untyped_storage().data_ptr() in self.pinned
        assert user is self.compute
        there = torch.full_like(tensor, 77)
        stream.queue.append(lambda: there.copy_(tensor))
        self.log.append("uploading")
        return there

    def download(self, tensor, stream):
        assert stream.behind == len(self.compute.queue), "the copy would overtake what it copies"
        here = torch.full_like(tensor, torch.nan)
        stream.queue.append(lambda: here.copy_(tensor))
        return here


def extract(world, directory, settings=SETTINGS, workers=2, queues=None):
    """Extract as on a GPU, with ``queues`` in its place; return the encoder."""
    extraction = Extraction(settings, world.jobs, world.cache, workers)
    encoder = ClipEncoder(settings, world.cache, Card(queues or Queues()))
    extraction.engine = ThisProcess(encoder, workers)
    directory.mkdir()
    extraction.run(pd.DataFrame(world.verdicts), directory)
    return encoder


@pytest.mark.skipif(not WHOLE, reason="torchvision resizes in float32 on this processor")
@pytest.mark.fault(34)
def test_a_cards_scheduling_gives_the_bytes_of_the_plain_path(tmp_path, capsys):
    settings = changed(dtype="float32")
    plain, card = (World(tmp_path / name, contents=range(5)) for name in ("plain", "card"))
    plain.extract(tmp_path / "a", settings)
    queues = Queues()
    encoder = extract(card, tmp_path / "b", settings, 3, queues)
    assert card.bytes(tmp_path / "b") == plain.bytes(tmp_path / "a")
    passes = 8 + 4  # of 4 rows each: 5 clips of 6 frames and 3 seconds of sound
    assert len(queues.compute.queue) == 2 * passes + 5 * 2  # the marks around each, and one before features leave
    assert encoder.card.busy() == 0.25 * passes
    assert says(capsys.readouterr().out.splitlines()[1], "5 clips", "of 3 threads, the GPU", "-bound")


def test_few_passes_are_queued_on_a_card():
    queues = Queues()
    card = Card(queues)
    for _ in range(QUEUED + 2):
        with card.one_pass([card.pin(torch.ones(2))]) as rows:
            assert rows[0].tolist() == [1, 1]
    started, ended = ["uploading"], ["computed", "computed"]
    assert queues.log == started * QUEUED + (ended + started) * 2
    card.finish()
    assert queues.log[-2 * QUEUED :] == ended * QUEUED


def test_a_pass_that_fails_is_not_waited_for():
    card = Card(Queues())
    with pytest.raises(ZeroDivisionError), card.one_pass([]):
        _ = 1 / 0
    assert card.busy() == 0


@pytest.mark.fault(27)
def test_a_card_without_room_halves_its_passes_and_keeps_the_numbers(tmp_path, monkeypatch, capsys):
    World(tmp_path / "whole").extract(tmp_path / "a")
    network, sizes = encoders.ENCODERS.get("timm"), []
    whole, reduce, refusals = network.encode, clip_encoder.reduce_to_segments, [1]

    def small(self, batch):
        if batch.any():  # not the black frame by which the encoder learns its shape
            sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        return whole(self, batch)

    def full_once(*arguments):
        if refusals:
            refusals.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return reduce(*arguments)

    monkeypatch.setattr(network, "encode", small)
    monkeypatch.setattr(network, "traceable", False)
    monkeypatch.setattr(clip_encoder, "reduce_to_segments", full_once)
    extract(World(tmp_path / "tight"), tmp_path / "b")
    assert sizes == [4] + [2] * 12
    assert says(capsys.readouterr().out, "4 rows", "memory", "2")
    first, second = (FeatureStore(tmp_path / name).read("visual", [f"clip{n}" for n in range(4)]) for name in "ab")
    np.testing.assert_allclose(first, second, rtol=2e-3, atol=4e-3)


def test_clips_in_the_making_are_taken_a_few_ahead(tmp_path):
    world = World(tmp_path, contents=range(12))
    encoder = ClipEncoder(SETTINGS, world.cache, Card(Queues()))
    made = Extraction(SETTINGS, world.jobs, world.cache, 1).plan.clips(pd.DataFrame(world.verdicts))
    most = []

    def clips():
        for number, clip in enumerate(made):
            stored = sum(world.cache.has(clip_encoder.KIND, key) for other in made for key in other.keys.values()) / 2
            most.append(number - stored)
            yield clip

    queues = encoder.card.runtime
    assert ThisProcess(encoder, 2).encode(clips(), bar=False).clips == 12
    passes = 1 + 18 + 9  # the first warms the card up
    assert len(queues.compute.queue) == 2 * passes + 12 * 2
    assert max(most) <= 10  # 3 loaded, 2 + 2 passes of 4 rows, 4 on their way back, what is in hand


@dataclass
class Decoding:
    """Verdicts that come one by one, in the place of the child processes; ``before`` is called ahead of the last."""

    world: World
    before: Callable[[], None]

    def __call__(self, jobs, settings):
        verdicts = {row["clip"]: {name: row[name] for name in row.keys() - {"clip", "key"}} for row in self.world.verdicts}
        for job in jobs:
            if job is jobs[-1]:
                self.before()
            yield job, verdicts[job.clip]


def undecoded(world: World, monkeypatch, before) -> Extraction:
    """An extraction on a stand-in for a GPU, of clips that nobody has decoded yet."""
    monkeypatch.setattr(decoding, "decode_each", Decoding(world, before))
    monkeypatch.setattr(Cache, "facts", lambda *_: None)
    extraction = Extraction(SETTINGS, world.jobs, world.cache, 2)
    extraction.engine = ThisProcess(ClipEncoder(SETTINGS, world.cache, Card(Queues())), 2)
    return extraction


def test_clips_are_encoded_while_others_are_decoded(tmp_path, monkeypatch):
    plain, world = (World(tmp_path / name, contents=[*range(12), 3]) for name in ("plain", "cache"))
    plain.verdicts.sort(key=lambda row: row["clip"])  # as a manifest is
    plain.extract(tmp_path / "a")

    def first_is_stored():
        deadline = time.monotonic() + 60
        while not any((world.cache.root / clip_encoder.KIND).rglob("*.npz")):
            assert time.monotonic() < deadline, "nothing is encoded before all is decoded"
            time.sleep(0.01)

    extraction = undecoded(world, monkeypatch, first_is_stored)
    manifest = extraction.decode([], MediaSettings())
    (tmp_path / "b").mkdir()
    assert extraction.run(manifest, tmp_path / "b").startswith("13 clips stored, 0 encoded")
    assert world.bytes(tmp_path / "b") == plain.bytes(tmp_path / "a")


@pytest.mark.fault(30)
def test_an_error_of_either_side_ends_decoding_and_encoding(tmp_path, monkeypatch):
    world = World(tmp_path, contents=range(12))
    with pytest.raises(ZeroDivisionError):
        undecoded(world, monkeypatch, lambda: 1 / 0).decode([], MediaSettings())
    monkeypatch.setattr(ClipEncoder, "store", lambda *_: (_ for _ in ()).throw(PipelineError("the disk is full")))
    with pytest.raises(PipelineError, match="disk is full"):
        undecoded(World(tmp_path / "other", contents=range(12)), monkeypatch, lambda: None).decode([], MediaSettings())


def test_a_gpus_numbers_have_keys_of_their_own(tmp_path):
    """Also where its passes are as small as a CPU's."""
    world = World(tmp_path, contents=(0,))
    plan = Extraction(SETTINGS, world.jobs, world.cache, 1).plan
    here = plan.clip(world.verdicts[0]).keys
    plan.encoder.device = torch.device("cuda")
    there = plan.clip(world.verdicts[0]).keys
    assert not set(here.values()) & set(there.values())


@pytest.mark.parametrize(("precision", "product"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_the_arithmetic_is_set_and_restored_without_a_warning(precision, product, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: warnings.catch_warnings())  # it looks for a GPU
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def state():
        return cudnn.deterministic, cudnn.benchmark, cudnn.conv.fp32_precision, matmul.fp32_precision

    before = state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError), arithmetic(torch.device("cuda"), precision):
            assert state() == (True, False, product, product)
            _ = 1 / 0
    assert state() == before


@ON_A_GPU
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_on_a_gpu_the_same_clips_give_the_same_bytes_near_those_of_the_cpu(tmp_path, precision):
    def store(name, device):
        settings = changed(dtype="float32", precision=precision, batch_size=8, device=device)
        World(tmp_path / f"{name} cache").extract(tmp_path / name, settings)
        return FeatureStore(tmp_path / name)

    first, again, cpu = store("first", "cuda"), store("again", "cuda"), store("cpu", "cpu")
    for modality in ("visual", "audio"):
        ours, twice, theirs = (each.read(modality, [f"clip{number}" for number in range(4)]) for each in (first, again, cpu))
        assert ours.tobytes() == twice.tobytes()
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error < {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 5e-2}[precision]


@ON_A_GPU
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])  # in TF32 they do: seen on an H200
def test_on_a_gpu_a_rows_bytes_do_not_depend_on_its_place_or_neighbours(precision):
    encode = PassEncoder(encoders.create("resnet50", weights="none"), torch.device("cuda"), precision, 64)
    frames = torch.randint(0, 256, (64, 240, 250, 3), dtype=torch.uint8)
    together = encode(frames)
    assert torch.equal(encode(frames.flip(0)).flip(0), together)
    assert torch.equal(encode(frames[5:9]), together[5:9])


@ON_A_GPU
def test_on_a_gpu_without_room_a_pass_is_halved_and_the_numbers_stay():
    device = torch.device("cuda", torch.cuda.current_device())
    encoder = encoders.create("vgg19", weights="none")
    frames = torch.randint(0, 256, (64, 240, 240, 3), dtype=torch.uint8)
    whole = PassEncoder(encoder, device, "float32", 64)
    expected = whole(frames)
    whole.make_room()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 1024 * 2**20) / total, device)
    try:
        tight = PassEncoder(encoder, device, "float32", 64)
        halved = tight(frames)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert tight._fits < 64
    torch.testing.assert_close(halved, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
