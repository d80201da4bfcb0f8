"""Count the labels that training would not see: of overlapping events, one has a segment, and short events have none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from pipeline.datasets.base import Event, count_lines
from pipeline.datasets.segments import least_cover
from pipeline.films.fit import Fit
from pipeline.tasks.avel.targets import targets_of_events

NAMED = 5  # events or windows named in a line


def lost_lines(events: Mapping[str, Sequence[Event]], lengths: Mapping[str, float], chosen: Fit, tiers: Collection[str]) -> list[str]:
    """Describe events that lose segments to another class, events without a segment, and windows with several classes.

    Args:
        events: by film.
        lengths: seconds by film; films without one are left out.
        tiers: ELAN's tiers that the events are of.
    """
    taken, short, mixed = list[str](), list[str](), list[str]()
    classes = sorted({event.label for of_film in events.values() for event in of_film})
    window, seconds = chosen.windowing, chosen.windowing.segment_seconds
    for film in (film for film in events if film in lengths):
        starts = window.starts(lengths[film]) if chosen.windows == "all" else [0.0]
        spans = [(classes.index(event.label), event.onset, event.offset) for event in events[film]]
        truth = targets_of_events([spans], len(starts) * window.segments, len(classes), seconds).segments[0].numpy()
        begins = np.arange(len(truth)) * seconds
        for (label, onset, offset), event in zip(spans, events[film], strict=True):
            covered = truth[np.minimum(begins + seconds, offset) - np.maximum(begins, onset) > least_cover("half", seconds)]
            named = f"{film} {event.onset:g}-{event.offset:g} s {event.label}"
            if not len(covered):
                short.append(named)
            elif (covered != label).any():
                taken.append(named)
        for start, of_window in zip(starts, truth.reshape(len(starts), window.segments), strict=True):
            if len(found := [classes[label] for label in np.unique(of_window) if label < len(classes)]) > 1:
                mixed.append(f"{film} from {start:g} s: {' and '.join(found)}")
    advice = f"; `--tier` takes one of ELAN's tiers ({', '.join(sorted(tiers))})" if len(tiers) > 1 else ""
    return [
        *count_lines(f"events that lose segments to an event of another class, as a segment has one class{advice}", taken, NAMED),
        *count_lines(f"events that cover no segment of {seconds:g} s by half, and are not trained on", short, NAMED),
        *count_lines(f"windows with events of several classes{advice}", mixed, NAMED),
    ]
