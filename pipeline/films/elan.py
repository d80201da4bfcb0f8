"""Read ELAN's annotation format (.eaf), an XML file for one film.

Every time-aligned annotation of every tier is an event. Its label is its text or, where that is empty, the name of its tier. Annotations
that refer to others, and those whose times ELAN interpolates, have no times of their own and are left out. (pympi-ling reads the format
too, but states no place of a fault, and stops at files without a schema's address.)
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree  # expat bounds the growth of entities

from pipeline.errors import InputProblems
from pipeline.films.spans import Found, Span, file_name
from pipeline.registry import suggest

MILLISECONDS = "milliseconds"


def read(path: Path, tier: str | None = None) -> Found:
    """Read the annotations of one file.

    Args:
        tier: the only tier to read; None: all.

    Raises:
        InputProblems: the file is no EAF document, or has no such tier.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding that is not known, or not supported
        raise InputProblems(str(path), [f"not a whole ELAN file: {error}"]) from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise InputProblems(str(path), [f"not an ELAN file: its root is {root.tag}"])
    units = next((part.get("TIME_UNITS", MILLISECONDS) for part in root.iter("HEADER")), MILLISECONDS)
    if units != MILLISECONDS:
        raise InputProblems(str(path), [f"its times are in {units}; save it by a later ELAN, which writes {MILLISECONDS}"])
    tiers = {part.get("TIER_ID", ""): part for part in root.iter("TIER")}
    if tier is not None and tier not in tiers:
        raise InputProblems(str(path), [f"there is no tier {tier!r}{suggest(tier, tiers)}"])
    linked = sorted(root.iter("MEDIA_DESCRIPTOR"), key=lambda part: not part.get("MIME_TYPE", "").startswith("video/"))  # pictures first
    media = linked[0] if linked else ElementTree.Element("MEDIA_DESCRIPTOR")
    film = unquote(file_name(media.get("MEDIA_URL", ""))) or path.stem
    origin = media.get("TIME_ORIGIN", "0")  # milliseconds of the film before time 0 of the annotations
    ahead = int(origin) if origin.isdecimal() else 0
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    found, timeless = Found([film]), 0
    for name, part in tiers.items():
        if tier is not None and name != tier:
            continue
        timeless += sum(1 for _ in part.iter("REF_ANNOTATION"))
        for annotation in part.iter("ALIGNABLE_ANNOTATION"):
            where = f"{path}: tier {name!r}, annotation {annotation.get('ANNOTATION_ID')}"
            slots = [annotation.get("TIME_SLOT_REF1"), annotation.get("TIME_SLOT_REF2")]
            if unknown := [slot for slot in slots if slot not in times]:
                found.problems.append(f"{where}: there is no time slot {unknown[0]}")
                continue
            onset, offset = (times[slot] for slot in slots)
            if onset is None or offset is None:
                timeless += 1
                continue
            if not (onset.isdecimal() and offset.isdecimal()):
                found.problems.append(f"{where}: {onset!r} or {offset!r} is no time in {MILLISECONDS}")
                continue
            label = (annotation.findtext("ANNOTATION_VALUE") or "").strip() or name
            found.tiers.add(name)
            found.spans.append(Span(where, film, label, (int(onset) + ahead) / 1000, (int(offset) + ahead) / 1000))
    if timeless:
        found.notes.append(f"{path}: {timeless} annotations without times of their own, left out")
    return found
