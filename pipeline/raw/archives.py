"""Unpack archives of clips into a directory, whole or not at all.

An archive is checked before anything is written, and refused with every reason at once: names that lead out of the directory, links
that do not lead to a file of the same archive, devices, encrypted entries, duplicate names, more bytes or files than allowed, or more
bytes than the archive's own size makes credible. Files are written by this module alone (no ``extractall``): regular files with fresh
permissions; a link becomes a copy of its file. Hidden files (``.DS_Store``, ``__MACOSX``) are left out.

Unpacking goes to a hidden directory beside the target, renamed to the target when complete: an interrupted run resumes at the file it
had reached. ``unpacked.json`` in it lists the archives and every file.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import Field
from tqdm import tqdm

from pipeline.cache import file_sha256, fingerprint
from pipeline.errors import InputProblems, PipelineError
from pipeline.publish import replacing
from pipeline.raw.members import LONGEST_PATH, Archive, Member, opened, safe_path
from pipeline.settings import Settings
from pipeline.stage import publishing

RECORD = "unpacked.json"
MOST_LINKS = 40  # in a row
_CHUNK = 2**20


class UnpackLimits(Settings):
    """Limits for all archives of one call together."""

    max_bytes: int = Field(500 * 2**30, ge=1, le=2**60, description="bytes of all files once unpacked")
    max_files: int = Field(500_000, ge=1, le=10**9, description="entries of all archives")
    max_ratio: float = Field(20.0, gt=0, description="unpacked bytes for each byte of an archive; video hardly compresses at all")


@dataclass
class Plan:
    """What unpacking one archive would write.

    files: path -> (name in the archive, bytes).
    copies: path -> path of the file it links to.
    left_out: hidden entries.
    problems: reasons to refuse the archive.
    """

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files.values()) + sum(self.files[path][1] for path in self.copies.values())


def unpack(archives: Sequence[Path], into: Path, limits: UnpackLimits | None = None) -> str:
    """Unpack ``archives`` into the directory ``into``, and return a one-line summary.

    Raises:
        InputProblems: every reason to refuse them, before anything is written.
        PipelineError: ``into`` holds something else, an archive is damaged, or the disk is too small.
    """
    limits = limits or UnpackLimits()
    if missing := [f"{path}: no such file" for path in archives if not path.is_file()]:
        raise InputProblems("unpack", missing)
    sources = [{"name": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size} for path in archives]
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        return _already(into, sources)
    plans = _plans(archives, limits)
    total = sum(plan.bytes for plan in plans)
    into.parent.mkdir(parents=True, exist_ok=True)
    if total > (free := shutil.disk_usage(into.parent).free):
        raise PipelineError(f"{into}: {total} bytes would be written, the disk has {free} left; free some space or name another directory")
    with publishing(into, resume=fingerprint("unpack", sources)) as directory:
        files = [record for path, plan in zip(archives, plans, strict=True) for record in _write(path, plan, directory)]
        left_out = [name for plan in plans for name in plan.left_out]
        content = {"archives": sources, "left_out": left_out, "files": sorted(files, key=lambda record: str(record["path"]))}
        (directory / RECORD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return f"{into}: {len(files)} files, {total} bytes, out of {len(archives)} archives; {len(left_out)} hidden entries left out"


def _already(into: Path, sources: list[dict]) -> str:
    """The summary for a directory that is already unpacked.

    Raises:
        PipelineError: it does not hold exactly the files of these archives.
    """
    if not (into / RECORD).is_file():
        raise PipelineError(f"{into} exists and was not made by `unpack`; name another directory, or remove it")
    record = json.loads((into / RECORD).read_text(encoding="utf-8"))
    if record["archives"] != sources:
        names = ", ".join(source["name"] for source in record["archives"])
        raise PipelineError(f"{into} was unpacked from other archives ({names}); name them all in one command, or another directory")
    sizes = {file["path"]: (into / file["path"]).stat().st_size if (into / file["path"]).is_file() else -1 for file in record["files"]}
    changed = [file["path"] for file in record["files"] if sizes[file["path"]] != file["bytes"]]
    if changed:
        raise PipelineError(
            f"{into}: {len(changed)} files are gone or changed since it was unpacked (first: {changed[0]}); remove it first"
        )
    return f"{into}: already unpacked, all {len(sizes)} files are there"


def _plans(archives: Iterable[Path], limits: UnpackLimits) -> list[Plan]:
    plans: list[Plan] = []
    problems: list[str] = []
    taken: dict[str, Path] = {}
    most = limits.max_files
    for path in archives:
        with opened(path) as archive:
            plan = make_plan(archive, path.stat().st_size, limits, most)
        most -= len(plan.files) + len(plan.copies) + len(plan.left_out)
        plans.append(plan)
        problems += [f"{path.name}: {problem}" for problem in plan.problems]
        twice = [name for name in (*plan.files, *plan.copies) if taken.setdefault(name, path) != path]
        problems += [f"{path.name}: {name!r} is also in {taken[name].name}" for name in twice]
    if sum(plan.bytes for plan in plans) > limits.max_bytes:
        problems.append(f"more than {limits.max_bytes} bytes once unpacked; raise --max-bytes if that is right")
    if not problems and not any(plan.files for plan in plans):
        problems.append("the archives hold no file")
    if problems:
        raise InputProblems("unpack", problems)
    return plans


def make_plan(archive: Archive, archive_bytes: int, limits: UnpackLimits, max_files: int) -> Plan:
    """Check an archive's entries, and stop at the first limit exceeded."""
    plan, total = Plan(), 0
    links: dict[str, Member] = {}
    names: set[str] = set()
    for number, member in enumerate(archive.members(), 1):
        total += member.size
        if number > max_files:
            return _refused(plan, f"more than {limits.max_files} entries; raise --max-files if that is right")
        if total > limits.max_bytes:
            return _refused(plan, f"more than {limits.max_bytes} bytes once unpacked; raise --max-bytes if that is right")
        if total > limits.max_ratio * archive_bytes:
            reason = f"unpacks to more than {limits.max_ratio:g} times its size, unlike any archive of clips"
            return _refused(plan, f"{reason}; raise --max-ratio if that is right")
        try:
            path = safe_path(member.name)
        except ValueError as error:
            if member.kind != "directory" or member.name.strip("./"):
                plan.problems.append(f"{member.name[:LONGEST_PATH]!r} {error}")
            continue
        if member.kind == "directory":
            continue
        if any(part.startswith(".") or part == "__MACOSX" for part in path.split("/")):
            plan.left_out.append(path)
        elif problem := _problem(member, path, names):
            plan.problems.append(f"{member.name!r} {problem}")
        elif member.kind == "link":
            links[path] = member
        else:
            plan.files[path] = (member.name, member.size)
        names.add(path)
    plan.problems += [f"{path!r} is a file and a directory" for path in sorted(names) if any(str(p) in names for p in Path(path).parents)]
    _resolve_links(plan, links)
    if plan.bytes > limits.max_bytes:
        return _refused(plan, f"with its links more than {limits.max_bytes} bytes once unpacked; raise --max-bytes if that is right")
    if plan.bytes > limits.max_ratio * archive_bytes:
        reason = f"its links, which become copies, unpack to more than {limits.max_ratio:g} times its size, unlike any archive of clips"
        return _refused(plan, f"{reason}; raise --max-ratio if that is right")
    return plan


def _refused(plan: Plan, reason: str) -> Plan:
    plan.problems.append(reason)
    return plan


def _problem(member: Member, path: str, names: set[str]) -> str:
    if member.kind == "other":
        return "is neither a file, a directory nor a link (a device, a pipe, a sparse file)"
    if member.encrypted:
        return "is encrypted"
    if path in names:
        return "is in it twice"
    return "would take the place of the record" if path == RECORD else ""


def _resolve_links(plan: Plan, links: dict[str, Member]) -> None:
    """Turn links that end at a file of the archive into copies, all others into problems."""
    for path in links:
        place = path
        for _ in range(MOST_LINKS):
            if place not in links:
                break
            link = links[place]
            place = posixpath.normpath(posixpath.join("" if link.hard else posixpath.dirname(place), link.target))
        if place in plan.files:
            plan.copies[path] = place
        else:
            plan.problems.append(f"{path!r} is a link to {links[path].target[:LONGEST_PATH]!r}, which is not a file of this archive")


def _write(path: Path, plan: Plan, directory: Path) -> list[dict[str, str | int]]:
    """Write the files that an earlier try did not; returns path, bytes and sha256 of all files."""
    records: list[dict[str, str | int]] = []
    planned = {inside: (name, size) for name, (inside, size) in plan.files.items()}
    with opened(path) as archive, tqdm(total=plan.bytes, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
        for inside, stream in archive.contents():
            if inside in planned:
                name, size = planned[inside]
                target = directory / name
                is_whole = target.is_file() and target.stat().st_size == size  # from an earlier try, which renamed it when whole
                digest = file_sha256(target) if is_whole else _write_file(stream, target, size, f"{path}: {inside!r}")
                records.append({"path": name, "bytes": size, "sha256": digest})
                bar.update(size)
    for name, source in plan.copies.items():
        with open(directory / source, "rb") as stream:
            digest = _write_file(stream, directory / name, size := plan.files[source][1], f"{path}: {name!r}")
        records.append({"path": name, "bytes": size, "sha256": digest})
    return records


def _write_file(stream: IO[bytes], target: Path, size: int, what: str) -> str:
    """Write ``size`` bytes, and return their sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    short = hashlib.sha256(target.name.encode(errors="surrogateescape")).hexdigest()[:16]  # a name may be as long as the system allows
    digest, written = hashlib.sha256(), 0
    with replacing(target, target.with_name(f".{short}.partial")) as partial:
        with open(partial, "wb") as output:
            while chunk := stream.read(min(_CHUNK, size - written + 1)):
                written += len(chunk)
                if written > size:
                    break
                digest.update(chunk)
                output.write(chunk)
        if written != size:
            much = "more" if written > size else "less"
            raise PipelineError(f"{what} holds {much} than the {size} bytes it states; get the archive again")
    return digest.hexdigest()
