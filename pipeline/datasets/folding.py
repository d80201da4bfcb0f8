"""Make the folds of a data set: clips that share a source stay together, and classes are shared evenly.

Clips are one group if they have the same id, file or bytes, or if they share a source of the file that ``dataset.folds.by`` names; so are
clips that are linked through others. Groups are dealt out from the largest to the smallest, each to the fold that has least of its classes
and is smallest; nothing is drawn, so the same clips give the same folds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.base import FoldSettings, Row, count_lines
from pipeline.datasets.folds import Folds, Place
from pipeline.datasets.tables import read_records
from pipeline.errors import InputProblems

FOLDED = ("train", "val", "test")  # rows that take part, whichever of these splits the annotations give
COLUMNS = {"id": "clip", "film": "clip", "file": "source", "group": "source"}  # other names of the columns of `by`


def make_folds(rows: Sequence[Row], settings: FoldSettings, hashes: Sequence[str | None] | None = None) -> Folds:
    """Divide the labelled clips of an index into folds.

    Training clips whose labels have no times (LLP's) cannot be tested: they train in every fold, and take no part.

    Args:
        hashes: sha256 of each row's file; None: not known.

    Raises:
        InputProblems: there are fewer groups than folds, ``by`` does not name all clips, or clips to test share a source with clips that
            train in every fold.
    """
    labelled = [number for number, row in enumerate(rows) if row.split in FOLDED]
    weak = set() if has_times(rows) else {number for number in labelled if rows[number].split == "train"}
    taken = [number for number in labelled if number not in weak]
    sources = read_sources(settings.by) if settings.by is not None else None
    if sources is not None and (missing := [rows[number].clip for number in labelled if not _named(rows[number].clip, sources)]):
        raise InputProblems(str(settings.by), count_lines("clips of the data set without a line", list(dict.fromkeys(missing))))
    groups = grouped((rows[number].clip, _links(rows[number], hashes[number] if hashes else None, sources or {})) for number in labelled)
    clips = list(dict.fromkeys(rows[number].clip for number in taken))
    trained = {groups[rows[number].clip] for number in weak}
    if shared := [clip for clip in clips if groups[clip] in trained]:
        about = "clips to test that share a source with training clips, whose labels have no times, so that they train in every fold"
        raise InputProblems("dataset.folds", count_lines(about, shared))
    sizes = Counter(groups[clip] for clip in clips)
    if len(sizes) < settings.number:
        largest = ", ".join(str(count) for _, count in sizes.most_common(5))
        found = f"{settings.number} folds of {len(sizes)} groups of clips that share a source (of {largest} clips)"
        raise InputProblems("dataset.folds", [f"{found}; lower number, or name fewer sources in `by`"])
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    of_clip: dict[str, set[str]] = defaultdict(set)
    for number in taken:
        row = rows[number]
        classes[groups[row.clip]].update(row.clip_labels or [""])
        of_clip[row.clip].update(row.clip_labels)
    of_group = dealt(sizes, classes, settings.number)
    folds = Folds(settings.number, {clip: Place(groups[clip], of_group[groups[clip]]) for clip in clips}, {})
    always = {name for number in weak for name in rows[number].clip_labels}
    facts = {
        "by": settings.by.name if settings.by is not None else None,
        "groups": len(sizes),
        "health": [*fixed_lines([rows[number] for number in taken]), *weak_lines(len(weak)), *class_lines(folds, of_clip, always)],
    }
    return Folds(settings.number, folds.clips, facts)


def has_times(rows: Sequence[Row]) -> bool:
    """Whether training clips have events, and not only labels of the whole clip."""
    trained = [row for row in rows if row.split == "train"]
    return any(row.events for row in trained) or not any(row.clip_labels for row in trained)


def read_sources(path: Path) -> dict[str, list[str]]:
    """Read the sources of each clip: a CSV file with the columns ``clip`` and ``source``, a line for every pair.

    Raises:
        InputProblems: every malformed line.
    """
    problems: list[tuple[int, str]] = []
    found: dict[str, list[str]] = defaultdict(list)
    for line, record in read_records(path, ["clip", "source"], problems, COLUMNS):
        clip, source = record["clip"].strip(), record["source"].strip()
        if clip and source:
            found[clip].append(source)
        else:
            problems.append((line, "the clip or the source is empty"))
    if problems:
        raise InputProblems(str(path), [f"line {line}: {problem}" for line, problem in problems])
    return found


def _named(clip: str, sources: Mapping[str, list[str]]) -> list[str]:
    """The sources of a clip; a window of a film without its own has those of the film."""
    return sources.get(clip) or sources.get(clip.rpartition("@")[0], [])


def _links(row: Row, digest: str | None, sources: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """What a row shares with others of its group, each with its kind."""
    found = [("source", source) for source in _named(row.clip, sources)]
    found += [("file", row.file)] if row.file else []
    return found + ([("bytes", digest)] if digest else [])


def grouped(links: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> dict[str, str]:
    """The group of each clip, named by its first clip: clips with a common link are together.

    >>> grouped([("a", [("source", "1")]), ("b", []), ("c", [("source", "1")])])
    {'a': 'a', 'b': 'b', 'c': 'a'}
    """
    above: dict[str, str] = {}
    holder: dict[tuple[str, str], str] = {}
    order: dict[str, int] = {}

    def top(clip: str) -> str:
        while above[clip] != clip:
            above[clip] = above[above[clip]]
            clip = above[clip]
        return clip

    for clip, shared in links:
        above.setdefault(clip, clip)
        order.setdefault(clip, len(order))
        for link in shared:
            first, second = sorted((top(clip), top(holder.setdefault(link, clip))), key=order.__getitem__)
            above[second] = first
    return {clip: top(clip) for clip in order}


def dealt(sizes: Mapping[str, int], classes: Mapping[str, Counter[str]], number: int) -> dict[str, int]:
    """The fold of each group.

    Args:
        sizes: clips of each group, in annotation order; classes: its clips by class.
    """
    of_class: Counter[str] = Counter()
    for counts in classes.values():
        of_class.update(counts)
    clips = sum(sizes.values())
    filled, held = [0] * number, [Counter[str]() for _ in range(number)]
    found: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: -sizes[name]):  # stable: equal ones in annotation order

        def crowding(fold: int, group: str = group) -> float:
            alike = sum(held[fold][name] * count / of_class[name] ** 2 for name, count in classes[group].items())
            return alike + filled[fold] * sizes[group] / clips**2

        fold = min(range(number), key=crowding)
        found[group] = fold
        filled[fold] += sizes[group]
        held[fold].update(classes[group])
    return found


def fixed_lines(rows: Sequence[Row]) -> list[str]:
    """Say that the splits of the annotations are not used, if they have several."""
    fixed = Counter[str](row.split for row in rows if row.split in FOLDED)
    if len(fixed) < 2:
        return []
    counts = ", ".join(f"{split} {fixed[split]}" for split in FOLDED if fixed[split])
    return [f"folds: the splits of the annotations ({counts} rows) are not used; every clip is tested once"]


def weak_lines(count: int) -> list[str]:
    """Say how many clips train in every fold."""
    return [f"folds: {count} training clips have labels without times; they train in every fold and are never tested"] if count else []


def class_lines(folds: Folds, classes: Mapping[str, set[str]], always: set[str]) -> list[str]:
    """Health lines on classes of one group, and on classes that a fold tests and does not train.

    Args:
        classes: of every clip; always: those of clips that train in every fold.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for clip, names in classes.items():
        for name in names:
            groups[name].add(folds.clips[clip].group)
    lonely = sorted(name for name, found in groups.items() if len(found) == 1 and name not in always)
    health = count_lines("folds: classes of one group of clips, tested by networks that never saw them", lonely)
    for fold in range(folds.number):
        held: dict[str, set[str]] = {split: set() for split in FOLDED}
        for clip, names in classes.items():
            held[folds.split_of(clip, fold, "")] |= names
        unseen = sorted((held["test"] | held["val"]) - held["train"] - {*lonely} - always)
        health += count_lines(f"fold {fold}: classes tested or validated without a training clip", unseen)
    return health
