"""Explicit download of a known weights file: resumable, its hash verified, published by rename.

Tested against a local server only: the real addresses could not be reached where this was written. If one has moved, ``weights get``
fails; take a local copy by ``from_path`` then.
"""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from pipeline.cache import file_sha256
from pipeline.encoders.known_weights import KnownWeights, get_known
from pipeline.errors import PipelineError

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True)
class Downloaded:
    """A weights file in place.

    path: where it lies.
    sha256: its hash.
    verified: whether a published hash was known to compare it with.
    """

    path: Path
    sha256: str
    verified: bool


def download(name: str, to: str | Path = Path("models/pretrained"), from_path: str | Path | None = None) -> Downloaded:
    """Bring the known weights ``name`` into the folder ``to``.

    Received bytes stay in ``FILE.part`` until the file is whole and its hash is right, so the next run resumes a broken download.
    An existing file is never overwritten; with the right hash it is the one asked for.

    Args:
        name: a name of ``weights.list_known()``.
        to: folder, made if missing.
        from_path: a local copy to take instead of downloading; its hash is verified as well.

    Raises:
        UnknownName: no such weights.
        PipelineError: another file of that name is there, no address, no connection, an incomplete answer or a wrong hash; with advice.
    """
    known = get_known(name)
    target = Path(to) / known.file
    there = file_sha256(target) if target.is_file() else ""
    if from_path is None and there:
        if not there.startswith(known.sha256):
            raise _in_the_way(target, there)
        return Downloaded(target, there, bool(known.sha256))
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if from_path is not None:
        _copy(Path(from_path), part)
    elif known.url is not None:
        _fetch(known, known.url, part)
    else:
        raise PipelineError(
            f"weights {name!r} cannot be downloaded as they are; {known.note}, "
            f"then: python -m pipeline weights get {name} --from PATH (or name the path as the encoder's `weights`)"
        )
    found = file_sha256(part)
    if not found.startswith(known.sha256):
        part.unlink()
        source = from_path if from_path is not None else known.url
        raise PipelineError(
            f"{source}: sha256 {found} is not the published {known.sha256}... of {known.file}; nothing was kept. Get the file again; "
            "to use a different file on purpose, name its path as the encoder's `weights`"
        )
    if there not in ("", found):
        part.unlink()
        raise _in_the_way(target, there)
    os.replace(part, target)  # not publish.replacing: a broken download must keep its part file
    return Downloaded(target, found, bool(known.sha256))


def _in_the_way(target: Path, sha256: str) -> PipelineError:
    return PipelineError(f"{target} is another file (sha256 {sha256}), and is not overwritten; move it away, then run this again")


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise PipelineError(f"{source}: no such file")
    shutil.copyfile(source, part)


def _fetch(known: KnownWeights, url: str, part: Path) -> None:
    """Download ``url`` into ``part``, resuming an earlier try if the server supports it."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            _receive(known, answer, part, have if answer.status == 206 else 0)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing left to send: the part is whole, and its hash is checked next
            return
        raise PipelineError(f"{url}: {error}; get {known.file} by other means and use --from PATH") from error
    except (OSError, HTTPException) as error:
        raise PipelineError(f"{url}: {error}; run the same command again to go on, or use --from PATH with a local copy") from error


def _receive(known: KnownWeights, answer: HTTPResponse, part: Path, have: int) -> None:
    announced = answer.headers.get("Content-Length")
    total = have + int(announced) if announced else None
    bar = tqdm(desc=known.file, total=total, initial=have, unit="B", unit_scale=True, disable=None)  # None: quiet off a terminal
    with part.open("ab" if have else "wb") as file, bar:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise PipelineError(f"{known.url}: the connection ended after {size} of {total} bytes; run the same command again to go on")
