"""The files of the demo world: reproducible to the byte, readable, and annotations that agree with each other."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.synth import world as world_module
from pipeline.synth.annotations import write_annotations
from pipeline.synth.plan import CATEGORIES, SECONDS, SPLITS, ClipPlan, draw_world
from pipeline.synth.settings import SynthSettings
from pipeline.synth.soundtrack import render_soundtrack
from pipeline.synth.world import write_world

TINY = SynthSettings(train_clips=2, val_clips=1, test_clips=1, picture_size=64)
REALMIX = Path(__file__).resolve().parents[3] / "shared" / "realmix"


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    write_world(root, TINY, workers=1)
    return root


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ClipPlan]]:
    """The default world's annotations alone, without rendering it."""
    root, plans = tmp_path_factory.mktemp("annotated"), draw_world(SynthSettings())
    write_annotations(root, plans)
    return root, plans


@pytest.mark.fault(34)
def test_bytes_do_not_depend_on_the_run_or_the_workers(tiny_root: Path, tmp_path: Path) -> None:
    write_world(tmp_path, TINY, workers=2)
    assert digests(tmp_path) == digests(tiny_root)
    assert len(digests(tiny_root)) == 4 + 11


def test_a_stopped_run_goes_on_and_keeps_only_what_is_whole(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip, written = world_module._write_clip, []

    def write_two(clips: Path, settings: SynthSettings, plan: ClipPlan) -> None:
        if len(written) == 2:
            (clips / f".{plan.id}.mp4.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(plan.id)
        write_clip(clips, settings, plan)

    monkeypatch.setattr(world_module, "_write_clip", write_two)
    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path, TINY, workers=1)
    assert not (tmp_path / "spans.csv").exists()

    rest: list[str] = []

    def write_and_note(clips: Path, settings: SynthSettings, plan: ClipPlan) -> None:
        rest.append(plan.id)
        write_clip(clips, settings, plan)

    monkeypatch.setattr(world_module, "_write_clip", write_and_note)
    write_world(tmp_path, TINY, workers=1)
    assert len(rest) == 2
    assert not set(rest) & set(written)
    assert digests(tmp_path) == digests(tiny_root)


def test_files_of_another_world_are_refused(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(PipelineError, match=r" 1 files .*holiday\.mp4"):
        write_world(tmp_path, TINY, workers=1)
    assert [path.name for path in clips.iterdir()] == ["holiday.mp4"]
    with pytest.raises(PipelineError, match=r"workers.* 0"):
        write_world(tmp_path / "other", TINY, workers=0)


def test_progress_is_reported(tmp_path: Path) -> None:
    counts = []

    def track(finished, count):
        for done, item in enumerate(finished, start=1):
            counts.append((done, count))
            yield item

    write_world(tmp_path, SynthSettings(train_clips=1, val_clips=1, test_clips=1, picture_size=64, video_rate=5), 1, track)
    assert counts == [(1, 3), (2, 3), (3, 3)]


def test_media_hold_ten_seconds_of_both_streams_and_the_rendered_sound(tiny_root: Path) -> None:
    for plan in draw_world(TINY):
        path = tiny_root / "clips" / f"{plan.id}.mp4"
        with av.open(str(path)) as container:
            assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
            assert not container.metadata.get("creation_time")
            times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
        np.testing.assert_allclose(times, np.arange(SECONDS * 8) / 8, atol=1e-6)
        with av.open(str(path)) as container:
            frames = [frame for frame in container.decode(audio=0)]
        waveform = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        assert frames[0].sample_rate == 16000
        assert 0 <= len(waveform) - SECONDS * 16000 < 1024, "the last AAC frame may run over, no more"
        rendered = render_soundtrack(plan, TINY).mixed()
        shortest = min(len(waveform), len(rendered))
        # AAC is lossy; a shift of a few samples would already break the correlation of noise
        assert np.corrcoef(waveform[:shortest], rendered[:shortest])[0, 1] > 0.8, plan.id


def rows(path: Path, separator: str) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter=separator, quoting=csv.QUOTE_NONE))


def test_ave_files_agree_with_the_plan(annotated: tuple[Path, list[ClipPlan]]) -> None:
    root, plans = annotated
    assert (root / "categories.txt").read_text(encoding="utf-8").splitlines() == list(CATEGORIES)
    header, *everything = rows(root / "Annotations.txt", "&")
    assert header == ["Category", "VideoID", "Quality", "StartTime", "EndTime"]
    truth = {plan.id: [CATEGORIES[plan.event.category], plan.id, "good", str(plan.event.onset), str(plan.event.offset)] for plan in plans}
    assert {row[1]: row for row in everything} == truth
    assert len(everything) == len(truth)
    for split in SPLITS:
        assert rows(root / f"{split}Set.txt", "&") == [truth[plan.id] for plan in plans if plan.split == split]


def test_llp_files_agree_with_the_spans(annotated: tuple[Path, list[ClipPlan]]) -> None:
    root, plans = annotated
    header, *spans = rows(root / "spans.csv", ",")
    assert header == ["id", "split", "modality", "class", "onset", "offset", "main"]
    for modality in ("audio", "visual"):
        head, *events = rows(root / f"eval_{modality}.csv", "\t")
        assert head == ["filename", "onset", "offset", "event_labels"]
        assert events == [[f"{s[0]}_0_10", s[4], s[5], s[3]] for s in spans if s[2] == modality and s[1] != "train"]
    for split in SPLITS:
        head, *labels = rows(root / f"{split}.csv", "\t")
        assert head == ["filename", "event_labels"]
        present = {plan.id: {s[3] for s in spans if s[0] == plan.id} for plan in plans if plan.split == split}
        assert {name.removesuffix("_0_10"): set(classes.split(",")) for name, classes in labels} == present
        assert len(labels) == len(present)


def test_the_av_span_is_the_overlap_of_the_other_two(annotated: tuple[Path, list[ClipPlan]]) -> None:
    root, _ = annotated
    _, *spans = rows(root / "spans.csv", ",")
    _, *events = rows(root / "Annotations.txt", "&")
    for category, clip, _, start, end in events:
        own = [s for s in spans if s[0] == clip]
        covered = {m: {(s[3], t) for s in own if s[2] == m for t in range(int(s[4]), int(s[5]))} for m in ("audio", "visual", "av")}
        assert covered["audio"] & covered["visual"] == covered["av"] == {(category, t) for t in range(int(start), int(end))}
        assert {s[3]: s[6] for s in own} == {s[3]: str(int(s[3] == category)) for s in own}


@pytest.mark.skipif(not REALMIX.is_dir(), reason=f"{REALMIX} is not there; it lies beside the repository of its makers only")
def test_layout_is_that_of_realmix(annotated: tuple[Path, list[ClipPlan]]) -> None:
    root, _ = annotated
    for path in root.iterdir():
        real, own = (REALMIX / path.name).read_text(encoding="utf-8").splitlines(), path.read_text(encoding="utf-8").splitlines()
        if path.name.endswith("Set.txt"):
            assert [line.count("&") for line in (real[0], own[0])] == [4, 4]
        elif path.name != "categories.txt":
            assert own[0] == real[0]
            assert [own[1].count(c) for c in "\t&"] == [real[1].count(c) for c in "\t&"]


def test_workers_end_with_a_killed_parent(tmp_path, repository):
    """A pool's own workers would wait for work for ever."""
    script = """
import sys
from pathlib import Path
from pipeline.synth.settings import SynthSettings
from pipeline.synth.world import write_world
if __name__ == "__main__":
    write_world(Path(sys.argv[1]), SynthSettings(train_clips=400, val_clips=1, test_clips=1, picture_size=64), workers=2)
"""
    (tmp_path / "write.py").write_text(script, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    parent = psutil.Popen([sys.executable, str(tmp_path / "write.py"), str(tmp_path / "world")], env=environment)
    end = time.monotonic() + 60
    while not list((tmp_path / "world").glob("clips/*.mp4")):
        assert parent.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    workers = parent.children(recursive=True)
    assert len(workers) >= 2
    parent.kill()
    _, alive = psutil.wait_procs([parent, *workers], timeout=60)
    for process in alive:
        process.kill()
    assert alive == []
