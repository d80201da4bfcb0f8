"""``cache``: show what the per-clip cache holds by kind and age, and remove entries."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.disk import size_in_words

if TYPE_CHECKING:
    from pipeline.cache import Cache
    from pipeline.cache.contents import Held
    from pipeline.cache.local import Directory
    from pipeline.needed_entries import Needed

PARAMS, INDEX, CLIPS = Path("params.yaml"), Path("data/index"), Path("data/clips")
UNITS = {"h": 3_600, "d": 86_400, "w": 7 * 86_400}
UNFINISHED_SECONDS = 86_400.0  # after which a file in the making was left by a killed process


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "cache",
        help="show what the cache of clips holds by kind and age, and remove entries",
        description="Show what the cache holds. With --older-than, --kind or --not-in, remove the entries to which all of these apply,"
        " except those that the present params.yaml uses. It is safe beside a running stage.",
    )
    parser.add_argument("--older-than", type=age, metavar="AGE", help="not used for so long: 12h, 30d, 4w")
    parser.add_argument("--kind", action="append", metavar="KIND", help="of this kind, such as decoded; may be repeated")
    parser.add_argument("--not-in", choices=["params"], help="not used by the present params.yaml")
    parser.add_argument("--all", action="store_true", help="remove also what the present params.yaml uses")
    parser.add_argument("--dry-run", action="store_true", help="print what would be removed, and remove nothing")
    parser.add_argument("--local-copy", action="store_true", help="show or remove this machine's copy of a cache at a URL instead")
    parser.set_defaults(command=cache)


def age(text: str) -> float:
    """Seconds of an age such as 12h, 30d or 4w."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; give a number of hours, days or weeks: 12h, 30d, 4w")
    return float(match[1]) * UNITS[match[2]]


def cache(arguments: argparse.Namespace) -> None:
    """Show the cache, or remove entries of it.

    Raises:
        PipelineError: nothing is chosen, or there is no such kind.
    """
    from pipeline import config
    from pipeline.cache import Cache, Store
    from pipeline.cache.contents import held
    from pipeline.errors import PipelineError
    from pipeline.needed_entries import Needed, needed_entries

    prunes = arguments.older_than is not None or arguments.kind is not None or arguments.not_in is not None
    if not prunes and (arguments.all or arguments.dry_run):
        raise PipelineError("say what to remove: --older-than AGE, --kind KIND or --not-in params; without them the cache is only shown")
    if arguments.all and arguments.not_in:
        raise PipelineError("--all removes what params.yaml uses, --not-in params keeps it: give one of them")
    params = config.load(PARAMS) if PARAMS.exists() or (prunes and not arguments.all) else None
    needed = needed_entries(params, INDEX, CLIPS) if params and not arguments.all else Needed()
    of = Cache(params.cache.place if params else None)
    if arguments.local_copy and not isinstance(of.root, Store):
        raise PipelineError(f"the cache {of.root} is a directory of this machine; there is no copy of it")
    place = of.local if arguments.local_copy else of
    if prunes:
        _prune(arguments, place, of, needed)
        return
    kinds = held(place, needed.keys)
    if params is None:
        needed = Needed(unknown=dict.fromkeys(kinds, f"there is no {PARAMS} here"))
    print(f"{place.root}: {sum(kind.all.entries for kind in kinds.values())} entries" + (f"\n{as_text(kinds, needed)}" if kinds else ""))
    if isinstance(of.root, Store) and not arguments.local_copy:
        here = sum(each.size for each in of.local.entries())
        most = size_in_words(of.root.local_bytes)
        print(f"local copy: {of.local.root}, {size_in_words(here)} of at most {most}; --local-copy shows what it holds")


def _prune(arguments: argparse.Namespace, place: Cache | Directory, of: Cache, needed: Needed) -> None:
    from pipeline.cache.contents import Choice, prune
    from pipeline.errors import PipelineError
    from pipeline.needed_entries import KINDS
    from pipeline.registry import suggest

    strange = [kind for kind in arguments.kind or () if kind not in KINDS]
    if strange and (absent := [kind for kind in strange if kind not in {each.kind for each in place.entries()}]):
        raise PipelineError(f"the cache {place.root} has no entries of the kind {absent[0]!r}{suggest(absent[0], KINDS)}")
    choice = Choice(arguments.older_than or 0.0, arguments.kind, needed.keys, () if arguments.all else needed.unknown)
    gone = prune(place, choice, arguments.dry_run)
    done = "would be removed" if arguments.dry_run else "removed"
    for kind, reason in needed.unknown.items():
        if arguments.kind is None or kind in arguments.kind:
            print(f"{kind}: none is removed, because what params.yaml uses of them cannot be told: {reason}; --all removes them anyway")
    for kind, removed in gone.items():
        print(f"{kind}: {removed.entries} entries {done}, {size_in_words(removed.size)}")
    if not gone:
        print("no entry is so old, of this kind and not used by params.yaml: nothing to remove")
    left = list(of.leftovers(UNFINISHED_SECONDS))
    for path, _ in left if not arguments.dry_run else ():
        path.unlink(missing_ok=True)
    if left:
        print(f"{len(left)} unfinished files of killed processes {done}, {size_in_words(sum(size for _, size in left))}")


def as_text(kinds: Mapping[str, Held], needed: Needed) -> str:
    """Format what is held as a table: a line for each kind, with sizes by age."""
    from pipeline.cache.contents import AGES

    ages = [f"used within {next(iter(AGES))}", *list(AGES)[1:], "longer ago"]
    lines = [["kind", "entries", "size", *ages, "in params"]]
    for kind, of in kinds.items():
        used = "?" if kind in needed.unknown else f"{of.needed.entries} of them"
        lines.append(
            [
                kind,
                str(of.all.entries),
                size_in_words(of.all.size),
                *(size_in_words(each.size) if each.entries else "–" for each in of.by_age),
                used,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ("  ".join(f"{cell:{'<' if n == 0 else '>'}{widths[n]}}" for n, cell in enumerate(line)) for line in lines)
    reasons = [f"? {kind}: {reason}" for kind, reason in needed.unknown.items() if kind in kinds]
    return "\n".join([*rows, *reasons])
