"""Read the VGG Image Annotator's video annotations (VIA 3): its project (.json) or its export (.csv).

Segments of time are events; what marks one picture, or a whole file, is left out. A segment's label is the value of its attribute; where it
has several, of those with a list of options if there are any. A checkbox with several options ticked gives one event for each.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InputProblems
from pipeline.films.spans import Found, Span, file_name
from pipeline.registry import suggest
from pipeline.text import read_text

HEADER = "# CSV_HEADER = "
NO_VALUE = frozenset(["", "_DEFAULT"])
CHECKBOX = 2  # the type of an attribute of which several options may be ticked, stored as their ids between commas
PARTS = frozenset(["attribute", "file", "view", "metadata"])  # of a project, that labels are read from


@dataclass
class Attributes:
    """VIA's attributes: name and options by id, and which are checkboxes.

    An export may use names in place of ids.
    """

    names: dict[str, str] = field(default_factory=dict)
    options: dict[str, Mapping[str, str]] = field(default_factory=dict)
    checkboxes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Attributes:
        names = {key: part["aname"] if isinstance(part, Mapping) else str(part) for key, part in described.items()}
        whole = {key: part for key, part in described.items() if isinstance(part, Mapping)}
        checkboxes = frozenset(key for key, part in whole.items() if part.get("type") == CHECKBOX)
        return cls(names, {key: dict(part.get("options") or {}) for key, part in whole.items()}, checkboxes)

    def labels(self, values: Mapping[str, Any], only: str | None) -> list[str]:
        """The labels that an annotation's values stand for: one, several of a checkbox, or none.

        Raises:
            ValueError: the attribute has no such option.
        """
        given = {key: str(value).strip() for key, value in values.items() if str(value).strip() not in NO_VALUE}
        if only is not None:
            given = {key: value for key, value in given.items() if self.names.get(key, key) == only}
        ticked = {key: value.split(",") if key in self.checkboxes else [value] for key, value in given.items()}
        chosen = {key: ids for key, ids in ticked.items() if self.options.get(key)} or ticked
        return next((self._named(key, ids) for key, ids in chosen.items()), [])

    def _named(self, key: str, ids: list[str]) -> list[str]:
        options = {str(option): str(name).strip() for option, name in self.options.get(key, {}).items()}
        ids = [part.strip() for part in ids if part.strip()]
        unknown = [part for part in ids if part not in options and part not in options.values()]
        if unknown and (key in self.checkboxes or (options and unknown[0].isdecimal())):  # words: VIA's timelines need no option
            raise ValueError(f"{self.names.get(key, key)!r} has no option {unknown[0]!r} (it has {', '.join(options)})")
        return [options.get(part, part) for part in ids]


def read_project(path: Path, tier: str | None = None) -> Found:
    """Read a project.

    Args:
        tier: the only attribute to read, by name; None: the first with a value.

    Raises:
        InputProblems: it is no project of the video annotator, or has no such attribute.
    """
    try:
        content = json.loads(read_text(path))
        attributes = Attributes.of(content["attribute"])
        files = {key: file_name(part["fname"] or part["src"]) for key, part in content["file"].items()}
        films = {key: [files[str(file)] for file in view["fid_list"]] for key, view in content["view"].items()}
        marks = [(key, films[str(mark["vid"])], mark["z"], mark["av"]) for key, mark in content["metadata"].items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        advice = "save the project of VIA's video annotator (version 3), or export it as CSV"
        raise InputProblems(str(path), [f"not a project of VIA's video annotator ({type(error).__name__}: {error}); {advice}"]) from None
    _check(path, tier, attributes)
    found = Found(list(dict.fromkeys(film for of_view in films.values() for film in of_view)))
    _add(found, path, ((f"{path}: metadata {key!r}", *mark) for key, *mark in marks), attributes, tier)
    return found


def is_project(path: Path) -> bool:
    """Whether a JSON file is a project of the video annotator."""
    try:
        content = json.loads(read_text(path))
    except (InputProblems, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= PARTS


def is_export(text: str) -> bool:
    """Whether a CSV file is VIA's: its header stands in a comment."""
    return any(line.startswith(HEADER) for line in text.splitlines())


def read_export(path: Path, tier: str | None = None) -> Found:
    """Read an export; arguments and errors as :func:`read_project`."""
    lines = read_text(path).splitlines()
    comments = [line for line in lines if line.startswith("#")]
    columns = next(line for line in comments if line.startswith(HEADER)).removeprefix(HEADER).strip(" ,").split(",")
    described = next((line.partition("=")[2] for line in comments if line.startswith("# ATTRIBUTE")), "{}")
    found = Found()
    try:
        attributes = Attributes.of(json.loads(described))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputProblems(str(path), ["its line `# ATTRIBUTE = ` is damaged; export it again"]) from None
    if attributes.names:
        _check(path, tier, attributes)
    marks = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            record = dict(zip(columns, next(csv.reader(io.StringIO(line), strict=True, skipinitialspace=True)), strict=False))
            films = [file_name(name) for name in json.loads(record["file_list"])]
            found.films += [film for film in films if film not in found.films]
            if "temporal_coordinates" in record:
                times = json.loads(record["temporal_coordinates"])
            else:
                times = [float(record["temporal_segment_start"]), float(record["temporal_segment_end"])]
            marks.append((f"{path}:{number}", films, times, json.loads(record["metadata"])))
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            found.problems.append(f"{path}:{number}: not a line of VIA's export ({type(error).__name__}: {error})")
    _add(found, path, marks, attributes, tier)
    return found


def _check(path: Path, tier: str | None, attributes: Attributes) -> None:
    if tier is not None and tier not in attributes.names.values():
        raise InputProblems(str(path), [f"there is no attribute {tier!r}{suggest(tier, attributes.names.values())}"])


def _add(found: Found, path: Path, marks: Iterable[Any], attributes: Attributes, tier: str | None) -> None:
    """Add the segments of time among the marks: (where, films, times, values)."""
    others = 0
    for where, films, times, values in marks:
        try:
            labels = attributes.labels(values, tier) if isinstance(values, Mapping) else []
        except ValueError as error:
            found.problems.append(f"{where}: {error}")
            continue
        if not isinstance(times, list) or len(times) != 2 or (tier is not None and not labels):
            others += 1
            continue
        found.spans += [Span(where, film, label, times[0], times[1]) for film in films for label in labels or [""]]
    if others:
        found.notes.append(f"{path}: {others} marks that are no segment of time, or of another attribute, left out")
