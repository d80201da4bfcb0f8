"""Runs on encoders of today predict a film, and predict it elsewhere with what the exported file carries."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.torch import save_file

from pipeline.__main__ import main
from pipeline.encoders import create
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.media.clip import decode_clip
from pipeline.media.settings import MediaSettings
from pipeline.predict import load_exported
from stages import decode, extract, index, train

RECIPE = {"learning_rate": 0.003, "batch_size": 4, "epochs": 1}
CLIPS = Path("data/raw/tiny/clips")
DATA = Path(__file__).resolve().parents[1] / "encoders/data"
CLIP = {"encoder": "clip", "model": "vit_xsmall_patch16_clip_224", "weights": "none", "image_size": 32}
DINO = {"encoder": "timm", "model": "test_vit3", "weights": "none", "image_size": 32, "final_norm": True}
KINDS = {
    "clip_clap": (CLIP, {"encoder": "clap", "folder": "mine", "weights": "pretrained"}),
    "dino_ast": (DINO, {"encoder": "ast", "folder": "mine", "weights": "none"}),
    "clip_map_hear": ({**CLIP, "pool": "map"}, {"encoder": "hear", "module": "mine.py"}),
    "dino_waveform": ({**DINO, "pool": "pooled"}, {"encoder": "waveform_transformer", "folder": "mine", "weights": "own.safetensors"}),
}
FOLDERS = {"clap": "clap", "ast": "ast", "waveform_transformer": "wav2vec2"}


def place_model(audio: dict) -> None:
    """Put the folder, the weights and the module that the settings name into the working directory."""
    shutil.rmtree("mine", ignore_errors=True)
    if audio["encoder"] == "hear":
        shutil.copy2(DATA / "tiny_hear.py", "mine.py")
        return
    shutil.copytree(DATA / FOLDERS[audio["encoder"]], "mine")
    network = create(audio["encoder"], folder="mine", weights="none").network
    if audio["weights"] == "pretrained":
        network.save_pretrained("mine")
        shutil.copy2(DATA / FOLDERS[audio["encoder"]] / "config.json", "mine/config.json")  # as published: of both towers
    elif audio["weights"] != "none":
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, audio["weights"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_predicts_here_and_elsewhere(kind, project, edit_params, tmp_path, monkeypatch, capsys, request):
    visual, audio = KINDS[kind]
    place_model(audio)

    def change(params: dict) -> None:
        params["features"][kind] = {**params["features"]["first"], "visual": visual, "audio": audio}
        params["runs"][kind] = {"task": "avel", "method": "avel", "features": kind, "seeds": [0], "overrides": {"recipe": RECIPE}}

    def command(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, capsys.readouterr().err
        return 0

    edit_params(change)
    extract.main(kind)
    train.main(kind)
    film = sorted((project / CLIPS).iterdir())[0].absolute()
    command("predict", film, "--run", kind, "--out", tmp_path / "here")
    request.getfixturevalue("quick_pictures")
    monkeypatch.setattr(sys, "argv", ["pipeline", "export", kind, "--out", str(tmp_path / "run.avel")])
    main()
    monkeypatch.chdir(tmp_path)
    if audio["encoder"] == "hear":
        with pytest.raises(PipelineError, match=r"run\.avel: its audio encoder hear is a program.*--run-its-code"):
            load_exported("run.avel")
        command("predict", film, "--model", "run.avel", "--out", "there", "--run-its-code")
    else:
        command("predict", film, "--model", "run.avel", "--out", "there")
    for name in ("events.json", "segments.csv"):
        assert (tmp_path / "here" / film.stem / name).read_bytes() == (tmp_path / "there" / film.stem / name).read_bytes()


def cut_up(film: Path, folder: Path, rate: int) -> Path:
    """A film's pictures as numbered JPEG, and its sound as FLAC beside them."""
    image, soundfile = pytest.importorskip("PIL.Image"), pytest.importorskip("soundfile")
    clip = decode_clip(film, start=0, segments=10, segment_seconds=1.0, settings=MediaSettings(frames_per_second=rate, frame_offset=0))
    folder.mkdir(parents=True)
    for place, picture in enumerate(clip.frames, 1):
        image.fromarray(picture).save(folder / f"{place:04}.jpg", quality=95, subsampling=0)
    soundfile.write(folder.with_suffix(".flac"), clip.waveform, clip.sample_rate, subtype="PCM_24")
    return folder


@pytest.mark.usefixtures("quick_pictures")
def test_numbered_pictures_and_a_sound_file_are_clips_like_their_film(project, tmp_path, monkeypatch, run):
    """Index, decode, extract and predict; features and scores are the film's to what JPEG takes away."""
    films = sorted((project / CLIPS).absolute().iterdir())[:2]
    before = FeatureStore(project.absolute() / "data/features/first")
    params = YAML(typ="safe").load(Path("params.yaml"))
    dataset = {"kind": "folder", "clips": "clips", "annotations": "clips", "segments": 10, "segment_seconds": 1.0}
    params |= {"dataset": dataset, "media": {**params["media"], "pictures_per_second": 8}}
    (tmp_path / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    (tmp_path / "models").symlink_to((project / "models").absolute())
    monkeypatch.chdir(tmp_path)
    for film in films:
        cut_up(film, Path("clips") / film.stem, 8)
    index.main()
    decode.main()
    extract.main("first")
    names = [film.stem for film in films]
    after = FeatureStore("data/features/first")
    assert sorted(after.index.index) == sorted(names)
    assert (after.index["status"] == "ok").all()
    for modality, reach in (("visual", 0.2), ("audio", 0.01)):
        ours, theirs = (store.read(modality, names).astype(float) for store in (after, before))
        assert np.abs(ours - theirs).mean() < reach * theirs.std()
        wrong = np.roll(theirs, 1, axis=1)
        assert np.abs(ours - theirs).mean() < 0.5 * np.abs(ours - wrong).mean()  # of another second they are not
    answers = []
    for path in (films[0], Path("clips") / names[0]):
        code, _, err = run(path, "--run", "avel", "--out", f"out-{len(answers)}")
        assert (code, err) == (0, "")
        [table] = Path(f"out-{len(answers)}").glob("*/segments.csv")
        answers.append(pd.read_csv(table).select_dtypes("number").to_numpy())
    np.testing.assert_allclose(*answers, atol=0.05)
