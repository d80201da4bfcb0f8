"""A trained run as one file that predicts on another machine, without the project that trained it.

A zip archive, stored without compression: ``model.json`` (how features are made and the network is built), ``seed-K.safetensors`` and
``seed-K.json`` as the training wrote them, ``weights/`` (those of an encoder that no package or known address has: fine-tuned ones and
files of the user's; with ``whole`` the published ones too), with ``program`` ``seed-K.pt2`` (:mod:`pipeline.predict.program`), and
``README.md``, the model card, which is also written beside the file (``RUN.avel.md``). Equal runs give equal bytes.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import config
from pipeline.disk import disk_fault
from pipeline.encoders import ENCODERS
from pipeline.encoders.base import own_file
from pipeline.encoders.folders import folder_sha256
from pipeline.encoders.weights import FINETUNED, find, list_known, weights_sha256
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.recipes import spec_differences
from pipeline.features.settings import FeatureSet
from pipeline.machine import this_machine
from pipeline.media.job import WORKING_SETTINGS, Job
from pipeline.media.settings import MediaSettings
from pipeline.media.windowing import Windowing
from pipeline.predict.card import card
from pipeline.predict.program import program_of
from pipeline.predict.source import PARAMS, RUNS, Source, check_predicts, check_trained, first_fold, folds_in
from pipeline.publish import replacing, write_text
from pipeline.report.cards import is_synthetic
from pipeline.scratch import Scratch
from pipeline.sealed import sealed, unsealed
from pipeline.tasks import TASKS
from pipeline.training.members import Member, members_of, trained_members
from pipeline.training.settings import TrainSettings
from pipeline.training.trained import facts_path, load_seed, weights_path

FORMAT = 1  # raised when an older version could not read the file
MODEL, CARD, WEIGHTS = "model.json", "README.md", "weights/"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # date of every entry, so that equal content gives equal bytes
LARGEST_JSON = 64 * 2**20
OTHERWISE = "install the versions that its README.md names and the published weights with these hashes, or export it with --whole"


def export(run: str, out: Path, seeds: Sequence[int] = (), whole: bool = False, program: bool = False) -> str:
    """Write a trained run of the project to one file, and its card beside it; return a one-line summary.

    Args:
        seeds: those to include; none: all that are trained.
        whole: include the published weights of the encoders, so that the other machine needs nothing but this package.
        program: include the network alone as a program of torch.

    Raises:
        UnknownName: no such run.
        PipelineError: a seed was never trained or is damaged, the run cannot predict files, weights of its encoders have changed since, or
            ``out`` is something else than an exported run, which alone is replaced.
        InputProblems: every setting that has changed since the training.
    """
    _check_place(out)
    params = config.load(PARAMS)
    config.pick(params.runs, run, "run")
    listed, trained = params.runs[run].seeds, trained_members(RUNS / run)
    ready, folds = {member.seed for member in trained}, folds_in(trained)
    chosen = list(seeds) or [seed for seed in listed if seed in ready] or listed[:1]  # the first is what `predict --run` takes
    members = members_of(chosen, folds or None)
    facts, programs = dict[str, Any](), dict[str, bytes]()
    for member in members:
        check_trained(run, member)
        method, facts = load_seed(RUNS / run, *member)  # damage is found here, not on the other machine
        if program and TASKS.get(facts["task"]).overlapping_windows:
            raise PipelineError(f"run {run!r} answers with spans, whose suppression is no part of a program of torch; leave out --program")
        if program:
            programs[f"{member.stem}.pt2"] = program_of(method, facts["shapes"], params.dataset.segments)
    check_predicts(run, facts)
    features = config.pick(params.features, params.features_of(facts["features"]), "feature set")
    _check_settings(run, facts["feature_spec"], features, params.media, Windowing(params.dataset.segments, params.dataset.segment_seconds))
    choices = {"visual": features.visual.model_dump(), "audio": features.audio.model_dump()}
    inside = dict(_weights(choices, facts["feature_spec"], whole))
    model = {
        "format": FORMAT,
        "run": run,
        "seeds": chosen,
        **({"folds": folds} if folds else {}),
        "features": {**features.model_dump(mode="json", exclude={"device", "finetuned"}), **choices},
        "media": params.media.sampling(WORKING_SETTINGS),
        "segments": params.dataset.segments,
        "segment_seconds": params.dataset.segment_seconds,
        "precision": params.train.precision,
        "exported_with": this_machine()["versions"],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    synthetic = is_synthetic(params.dataset.annotations, params.synth)
    text = card(model, facts, RUNS / run, Path("data/results/runs") / run, synthetic)
    with replacing(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, CARD, text.encode())
        _write(archive, MODEL, sealed(model, sort_keys=True).encode())
        for member in members:
            for path in (facts_path(RUNS / run, *member), weights_path(RUNS / run, *member)):
                _write(archive, path.name, path.read_bytes())
        for name, path in sorted(inside.items()):
            _write(archive, name, path.read_bytes())
        for name, content in programs.items():
            _write(archive, name, content)
    write_text(_beside(out), text)
    size = out.stat().st_size / 2**20
    of_folds = f" in {len(folds)} folds" if folds else ""
    return f"{out}: {run}, {len(chosen)} seed{'s' if len(chosen) > 1 else ''}{of_folds}, {size:.1f} MiB; predict with --model {out}"


def _beside(out: Path) -> Path:
    """The place of the card beside an exported run, for who does not open it."""
    return out.with_name(f"{out.name}.md")


def _check_place(out: Path) -> None:
    """Check that nothing but an earlier export, with its card, would be replaced.

    Raises:
        PipelineError: something else is there.
    """
    if not out.exists():
        if _beside(out).exists():
            raise PipelineError(f"{_beside(out)} is there and is no card of an exported run; name another file with --out")
        return
    ours = False
    if zipfile.is_zipfile(out):
        with zipfile.ZipFile(out) as archive:
            ours = MODEL in archive.namelist()
    if not ours:
        raise PipelineError(f"{out} is there and is no exported run; name another file with --out")


def _check_settings(run: str, trained: dict[str, Any], features: FeatureSet, media: MediaSettings, windowing: Windowing) -> None:
    """Check that today's settings make the features of the training; the encoders' own are compared when the file is used.

    Raises:
        InputProblems: every setting that differs.
    """
    job = Job("", "", "", 0.0, windowing.segments, windowing.segment_seconds, media, Path())
    names = {"visual": features.visual.encoder, "audio": features.audio.encoder}
    now = {
        **trained,
        "segments": job.segments,
        "segment_seconds": job.segment_seconds,
        "dtype": features.dtype,
        "precision": features.precision,
        "media": json.loads(json.dumps(job.sampling)),
        "encoders": {modality: {**spec, "encoder": names[modality]} for modality, spec in trained["encoders"].items()},
    }
    if problems := spec_differences(trained, now, "in training"):
        raise InputProblems(f"run {run!r} was trained with other settings; run `dvc repro`, then export again", problems)


def _weights(choices: dict[str, dict[str, Any]], spec: dict[str, Any], whole: bool) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file) of weights to include, and let ``choices`` name them so.

    Args:
        choices: the encoders' settings by modality.
        spec: the features' own, with the hash of every weights file.
    """
    for modality, choice in choices.items():
        config = ENCODERS.get(choice["encoder"]).Config(**{name: value for name, value in choice.items() if name != "encoder"})
        files, packed = config.files(), set[str]()
        for setting, digest in sorted(spec["encoders"][modality]["weights"].items()):  # a folder before the weights in it
            if inside := [path for name, path in files.items() if name.startswith(f"{setting}/")]:
                if folder_sha256(inside[0].parent) != digest:
                    raise _changed(inside[0].parent)
                packed = set(map(weights_sha256, inside))
                yield from ((f"{WEIGHTS}{digest}/{path.name}", path) for path in inside)
                choice[setting] = f"{WEIGHTS}{digest}"
                continue
            path = _file_of(str(choice.get(setting, "pretrained")), digest, whole) if digest not in packed else None
            if path is None or not (path.is_file() or setting in files):  # a module that is installed
                continue
            if weights_sha256(path) != digest:
                raise _changed(path)
            choice[setting] = f"{WEIGHTS}{digest}{path.suffix}"
            yield choice[setting], path


def _changed(path: Path) -> PipelineError:
    if path.suffix == ".py":
        return PipelineError(
            f"{path} has changed since the run was trained, or imports files beside it, which an exported run does not carry: make one file"
            " of them; run `dvc repro`, then export again"
        )
    return PipelineError(f"{path} has changed since the run was trained; run `dvc repro`, then export again")


def _file_of(setting: str, digest: str, whole: bool) -> Path | None:
    """The file to include for a setting that names weights; None where the other machine has its own."""
    if setting.startswith("finetuned/"):
        return FINETUNED / setting.removeprefix("finetuned/") / "encoder.safetensors"
    if setting == "pretrained" and whole:
        return next((path for known in list_known() if (path := find(known)) and weights_sha256(path) == digest), None)
    return own_file(setting)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content)


def of_file(path: Path, seed: int | None = None, fold: int | None = None, run_code: bool = False) -> Source:
    """Load a seed (and fold) from an exported file; None: the first in it.

    Args:
        run_code: whether an encoder may be a program that the file names or carries.

    Raises:
        PipelineError: the file cannot be read, is of a later version, has no such seed or fold, or would run code without ``run_code``.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: there is no such file; `python -m pipeline export RUN --out {path}` writes it")
    scratch = Scratch("avel-model-")
    try:
        with zipfile.ZipFile(path) as archive:
            model = unsealed(_small(archive, MODEL))
            if model["format"] > FORMAT:
                raise PipelineError(f"{path} was written by a later version of this package (format {model['format']}); update it")
            chosen = model["seeds"][0] if seed is None else seed
            if chosen not in model["seeds"]:
                raise PipelineError(f"{path} has no seed {chosen}; seeds in it: {', '.join(map(str, model['seeds']))}")
            folds = model.get("folds", [])
            member = Member(chosen, first_fold(folds, fold))
            if member.fold is not None and member.fold not in folds:
                raise PipelineError(f"{path} has no fold {fold}; folds in it: {', '.join(map(str, folds)) or 'none'}")
            for name in (facts_path(scratch.path, *member).name, weights_path(scratch.path, *member).name):
                _unpack(archive, name, scratch.path / name)
            for modality in ("visual", "audio"):
                choice = model["features"][modality]
                if ENCODERS.get(choice["encoder"]).Config.runs_code and not run_code:
                    raise PipelineError(
                        f"{path}: its {modality} encoder {choice['encoder']} is a program of whoever exported it, which predicting would"
                        " run; if you trust it, add --run-its-code (from Python run_code=True)"
                    )
                for setting in ENCODERS.get(choice["encoder"]).Config.places:
                    if str(choice.get(setting, "")).startswith(WEIGHTS):
                        place = scratch.path / Path(choice[setting]).name
                        if place.name == "..":
                            raise ValueError(f"{choice[setting]} leads out of it")
                        inside = [entry for entry in archive.namelist() if entry.startswith(f"{choice[setting]}/")]
                        for entry in inside or [choice[setting]]:  # a model's folder, or one file
                            target = place / Path(entry).name if inside else place
                            target.parent.mkdir(exist_ok=True)
                            _unpack(archive, entry, target)
                        choice[setting] = str(place)
        method, facts = load_seed(scratch.path, *member)
        return Source(
            model["run"], chosen, method, facts, str(path), MediaSettings.model_validate(model["media"]),
            Windowing(model["segments"], model["segment_seconds"]), FeatureSet.model_validate(model["features"]),
            TrainSettings(precision=model["precision"]), OTHERWISE, scratch, member.fold,
        )  # fmt: skip
    except OSError as error:
        raise PipelineError(disk_fault(error) or f"{path} cannot be unpacked below {scratch.path}: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, json.JSONDecodeError) as error:
        if isinstance(error, ValidationError):
            error = ValueError(f"settings that this version does not know: {' '.join(str(error).split())}")
        raise PipelineError(
            f"{path} is not a whole file of `python -m pipeline export` ({error}); copy it again, or export again"
        ) from error


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_JSON:
        raise ValueError(f"{name} is too large")
    return archive.read(name)


def _unpack(archive: zipfile.ZipFile, name: str, place: Path) -> None:
    """Copy one entry; its checksum is compared on the way. Only stored entries, which cannot grow."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    with archive.open(name) as source, open(place, "wb") as target:
        shutil.copyfileobj(source, target, 2**20)
