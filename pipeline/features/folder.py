"""A directory of features of films: npy, HDF5 or parquet, a record of each film, and one spec.json.

A file FILM.mp4 leaves FILM_visual.npy and FILM_audio.npy, or FILM.h5, or FILM.parquet, and FILM.json: what it was made from, its status,
and which segments are valid. The record is written first as ``unfinished`` and last as what it is, so an interrupted call is resumed, and
nothing is replaced but what this module has written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache import file_sha256
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.files import FileEncoder, FileFeatures
from pipeline.features.recipes import Recipe, spec_differences
from pipeline.features.store import checksum
from pipeline.publish import replacing
from pipeline.sealed import read_sealed, sealed
from pipeline.text import distinct_names, printable

ALL, SOME, NONE = 0, 1, 2  # exit codes: how many of the files have all their features
UNFINISHED = "unfinished"
Writer = Callable[[Path, dict[str, np.ndarray]], None]


def _write_npy(path: Path, arrays: dict[str, np.ndarray]) -> None:
    (values,) = arrays.values()
    with open(path, "wb") as stream:
        np.save(stream, values, allow_pickle=False)


def _write_h5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)


def _write_parquet(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write one row a segment, features as lists of numbers; spec.json has the shapes that these are flattened from."""
    columns = {name: pa.array(values) if values.ndim == 1 else _lists(values) for name, values in arrays.items()}
    pq.write_table(pa.table(columns), path)


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values[0].size)


# By format: how a file is written, its ending, and whether each array has one of its own.
FORMATS: dict[str, tuple[Writer, str, bool]] = {
    "npy": (_write_npy, "npy", True),
    "h5": (_write_h5, "h5", False),
    "parquet": (_write_parquet, "parquet", False),
}


def encode_into(directory: Path, form: str, files: list[Path], how: Recipe) -> int:
    """Encode files into a directory; report failures on stderr and carry on with the rest.

    Finished files are left as they are.

    Returns:
        Exit code: 0 if all files have all their features, 1 if some files or parts of a file have none, 2 if no file has any.

    Raises:
        PipelineError: no file can be encoded so, or not into this directory.
    """
    encoder = FileEncoder(how)
    folder = FeatureFolder(directory, form, encoder.spec())
    unfinished: list[tuple[Path, str]] = []
    any_of, whole = 0, 0
    for path, name in zip(files, distinct_names(files), strict=True):
        record = folder.finished(name, path)
        if record is None:
            unfinished.append((path, name))
            continue
        print(f"{printable(str(path))}: {record['status']}, finished before", flush=True)
        any_of, whole = any_of + 1, whole + (not record["lost"])
    free = []
    for path, name in unfinished:
        try:
            folder.check_free(name, path)
            free.append((path, name))
        except PipelineError as error:
            _complain(path, str(error))
    for (path, name), found in zip(free, encoder.encode([path for path, _ in free]), strict=True):
        written = folder.write(name, found)
        if found.good:
            shapes = ", ".join(f"{modality} {'x'.join(map(str, values.shape))}" for modality, values in found.features.items())
            print(f"{printable(str(path))}: {found.status}: {shapes} -> {', '.join(map(str, written))}", flush=True)
        if found.lost:
            _complain(path, f"{found.status}: {found.reason}")
        any_of, whole = any_of + found.good, whole + (not found.lost)
    return NONE if not any_of else ALL if whole == len(files) else SOME


def _complain(path: Path, sentence: str) -> None:
    print(f"features: {printable(str(path))}: {sentence}", file=sys.stderr, flush=True)


class FeatureFolder:
    """A directory of features of files that were all made in one way.

    Args:
        form: a key of :data:`FORMATS`.
        spec: as :meth:`pipeline.features.files.FileEncoder.spec` returns it.

    Raises:
        InputProblems: the directory holds features made in another way; every setting that differs.
        PipelineError: it holds other files.
    """

    def __init__(self, directory: Path, form: str, spec: dict[str, Any]) -> None:
        self.directory, self.form = directory, form
        place, spec = directory / "spec.json", {**spec, "format": form}
        if place.is_file():
            if problems := spec_differences(read_sealed(place), json.loads(json.dumps(spec)), "there"):
                raise InputProblems(f"{directory} holds features made with other settings; choose another --out, or these", problems)
        elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise PipelineError(f"{directory} is not a directory of features made by this command; choose another --out")
        else:
            directory.mkdir(parents=True, exist_ok=True)
            with replacing(place) as partial:
                partial.write_text(sealed(spec, sort_keys=True), encoding="utf-8")

    def finished(self, name: str, path: Path) -> dict[str, Any] | None:
        """Return the record of features that are made of the bytes at ``path`` and whole; else None."""
        record = self._record(name)
        files = record.get("files", {})
        try:
            if not files or record["content"] != file_sha256(path):
                return None
        except OSError:
            return None
        whole = all((path := self.directory / file).is_file() and checksum(path) == crc for file, crc in files.items())
        return record if whole else None

    def check_free(self, name: str, path: Path) -> None:
        """Check that the features of a film may be written under ``name``.

        Raises:
            PipelineError: the name is taken, by another film or by files that are no features.
        """
        record = self._record(name)
        if record:
            if record["file"] != _place(path):
                raise PipelineError(f"{self.directory / name}.json is of another film, {record['file']}; choose another --out")
            return
        for taken in (f"{name}.json", *self._files(name)):
            if (self.directory / taken).exists():
                raise PipelineError(f"{self.directory / taken} exists and was not written by this command; move it")

    def write(self, name: str, found: FileFeatures) -> list[Path]:
        """Write the features of a film and its record.

        A film that cannot be decoded has only a record, a missing one nothing.

        Raises:
            PipelineError: as :meth:`check_free`.
        """
        self.check_free(name, found.path)
        if not found.sha256:
            return []
        record = {"file": _place(found.path), "content": found.sha256, "seconds": found.seconds, "reason": found.reason, "lost": found.lost}
        self._note(name, {**record, "status": UNFINISHED})
        masks = {"visual_valid": found.visual_valid, "audio_valid": found.audio_valid}
        written = {}
        if found.good:
            write, _, alone = FORMATS[self.form]
            content = [{modality: values} for modality, values in found.features.items()] if alone else [{**found.features, **masks}]
            for file, arrays in zip(self._files(name), content, strict=True):
                with replacing(self.directory / file) as partial:
                    write(partial, arrays)
                written[file] = checksum(self.directory / file)
            record |= {mask: values.tolist() for mask, values in masks.items()} | {"machines": found.machines}
        self._note(name, {**record, "status": found.status, "files": written})
        return [self.directory / file for file in written]

    def _files(self, name: str) -> list[str]:
        _, ending, alone = FORMATS[self.form]
        return [f"{name}_{modality}.{ending}" for modality in ("visual", "audio")] if alone else [f"{name}.{ending}"]

    def _record(self, name: str) -> dict[str, Any]:
        path = self.directory / f"{name}.json"
        try:
            record = read_sealed(path) if path.is_file() else {}
        except PipelineError:
            return {}
        return record if "status" in record and "file" in record else {}

    def _note(self, name: str, record: dict[str, Any]) -> None:
        with replacing(self.directory / f"{name}.json") as partial:
            partial.write_text(sealed(record), encoding="utf-8")


def _place(path: Path) -> str:
    return printable(str(path.absolute()))
