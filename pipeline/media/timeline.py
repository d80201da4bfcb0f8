"""Find where the clock of a file's packets jumps, and put the parts one after the other.

``cat a.ts b.ts`` leaves two clocks in one file, and so does a recorder that restarts. In containers made for it FFmpeg plays such parts
one after the other, as is done here: all streams of a part move together, so that sound and picture stay aligned. In any other container
a jump is damage, and so is a jump that not all streams make. The rule is that of ``ts_discontinuity_detect`` in FFmpeg's
``fftools/ffmpeg_demux.c``, with one difference: it considers whole parts instead of one packet at a time, so that the last packets of a
part do not count as a jump when they are stored behind the first ones of the next.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.media.container import CLOCK_MAY_JUMP, MediaError, demuxed, open_container

JUMP_BACK = 0.1  # seconds; a clock that steps back by more has jumped (FFmpeg's number)
JUMP_AHEAD = 10.0  # seconds; where clocks may jump, a longer gap is a jump, not a pause (FFmpeg's dts_delta_threshold)
REORDERED = 1.0  # seconds by which presentation times may step back, as pictures are stored out of order
STRAY_PACKETS = 3  # longest run of packets off a clock that then continues: damaged stamps, no jump
STRAY_AHEAD = 1.0  # seconds
WRAP_SECONDS = 2**33 / 90000  # after which the clock of MPEG-TS and MPEG-PS restarts (ISO 13818-1, 2.4.3.6)


@dataclass(frozen=True)
class ClockPart:
    """The packets of one stream from number ``first`` on: ``shift`` seconds are added to their times."""

    first: int
    shift: float


@dataclass(frozen=True)
class Track:
    """The packets of one stream, in seconds of container time with the shifts of its parts applied.

    start, end: when its first packet begins and its last one ends.
    parts: one per clock; a single one without a shift in a file that was never joined.
    strays: numbers of packets whose times are damaged.
    pauses: (from, to) between the end of a part and the start of the next.
    """

    start: float
    end: float
    parts: tuple[ClockPart, ...] = ()
    strays: frozenset[int] = frozenset()
    pauses: tuple[tuple[float, float], ...] = ()

    @property
    def plain(self) -> bool:
        return len(self.parts) < 2 and not self.strays

    def straighten(self, number: int, packet: Any, time_base: Any) -> None:
        """Put packet ``number`` of the stream on the continuous clock; a stray loses its times."""
        if number in self.strays:
            packet.pts = packet.dts = None
            return
        shift = round(next((part.shift for part in reversed(self.parts) if number >= part.first), 0.0) / time_base)
        if shift:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        if packet.pts is not None and packet.dts is not None:
            packet.pts += round(round(float((packet.dts - packet.pts) * time_base) / WRAP_SECONDS) * WRAP_SECONDS / time_base)


@dataclass
class _Stamps:
    """The times that the packets of one stream state, in seconds; NaN where one states none."""

    kind: str
    numbers: list[int] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    present: list[float] = field(default_factory=list)
    lasting: list[float] = field(default_factory=list)

    def add(self, number: int, packet: Any) -> None:
        base = float(packet.time_base)
        self.numbers.append(number)
        self.decode.append(np.nan if packet.dts is None else packet.dts * base)
        self.present.append(np.nan if packet.pts is None else packet.pts * base)
        self.lasting.append((packet.duration or 0) * base)

    def unwrapped(self, wraps: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decoding times, presentation times, and seconds added to the former, on a clock that never restarts."""
        decode, present = np.asarray(self.decode), np.asarray(self.present)
        times = np.where(np.isnan(decode), present, decode)
        if not wraps:
            return decode, present, np.zeros(len(times))
        added = np.concatenate([[0.0], np.cumsum(np.round(np.diff(times) / -WRAP_SECONDS))]) * WRAP_SECONDS
        decode = decode + added
        present = present + added
        apart = np.round(np.nan_to_num(present - decode) / -WRAP_SECONDS)
        return decode, present + apart * WRAP_SECONDS, added


def read_tracks(path: str | os.PathLike[str], indices: tuple[int, ...]) -> dict[int, Track]:
    """Read the tracks of those streams ``indices`` that carry times, from all packets, without decoding.

    Raises:
        MediaError: ``unreadable`` where a clock jumps and the order of its parts is uncertain.
    """
    absolute = os.path.abspath(path)
    facts = os.stat(absolute)
    return _read_tracks(absolute, indices, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)  # the windows of one film follow each other
def _read_tracks(path: str, indices: tuple[int, ...], modified: int, size: int) -> dict[int, Track]:
    with open_container(path) as container:
        may_jump = bool(container.format.flags & CLOCK_MAY_JUMP)
        streams = [container.streams[index] for index in indices]
        stamps = {stream.index: _Stamps("pictures" if stream.type == "video" else "sound") for stream in streams}
        counts = dict.fromkeys(indices, 0)
        for packet in demuxed(container, streams, []):
            index = packet.stream.index
            if packet.pts is not None or packet.dts is not None:
                stamps[index].add(counts[index], packet)
            counts[index] += 1
    return _tracks({index: found for index, found in stamps.items() if found.numbers}, may_jump)


def _tracks(stamps: dict[int, _Stamps], may_jump: bool) -> dict[int, Track]:
    runs = {index: _Runs(found, may_jump, JUMP_AHEAD if may_jump else np.inf) for index, found in stamps.items()}
    if len({len(each.first) for each in runs.values()}) > 1:  # a gap in one stream alone is a pause
        runs = {index: _Runs(found, may_jump, np.inf) for index, found in stamps.items()}
    jumps = [each for each in runs.values() if len(each.first) > 1]
    if jumps and not may_jump:
        raise MediaError("unreadable", f"{jumps[0].jump(1)}, which its container does not allow")
    if jumps and len({len(each.first) for each in runs.values()}) > 1:
        other = next(each for each in runs.values() if len(each.first) != len(jumps[0].first))
        raise MediaError("unreadable", f"{jumps[0].jump(1)}, that of the {other.kind} does not: the parts do not pair")
    shifts, reached = [0.0], max((each.ends[0] for each in runs.values()), default=0.0)
    for number in range(1, len(jumps[0].first) if jumps else 1):
        starts = [each.starts[number] for each in runs.values()]
        if max(starts) - min(starts) > JUMP_AHEAD:
            raise MediaError("unreadable", f"{jumps[0].jump(number)}; picture and sound continue {max(starts) - min(starts):.4g} s apart")
        shifts.append(reached - min(starts))
        reached = max(each.ends[number] for each in runs.values()) + shifts[-1]
    return {index: each.track(shifts) for index, each in runs.items()}


class _Runs:
    """The packets of one stream cut where its clock jumps.

    first: (R,) number of the packet that begins each run; starts, ends: (R,) seconds on each run's own clock.
    """

    def __init__(self, stamps: _Stamps, own_times: bool, ahead: float) -> None:
        self.kind = stamps.kind
        numbers = np.asarray(stamps.numbers)
        times, present, added = stamps.unwrapped(own_times)
        tolerance = JUMP_BACK
        if np.isnan(times).all():
            times, tolerance = present, REORDERED if stamps.kind == "pictures" else JUMP_BACK
        elif stamps.kind == "pictures" and not own_times:  # FFmpeg computes the decoding times, wrong by up to the depth of reordering
            tolerance = max(JUMP_BACK, 4 * _interval(times))
        told = np.flatnonzero(~np.isnan(times))
        cuts, strays = _cut(times[told], tolerance, ahead)
        self.times, self.cuts = times[told], cuts
        self.numbers, self.added = numbers, added
        self.first = [0, *(int(numbers[told[cut]]) for cut in cuts)]
        self.strays = frozenset(int(numbers[told[stray]]) for stray in strays)
        shown = np.where(np.isnan(present), times, present)
        lasting = np.asarray(stamps.lasting)
        good = ~np.isnan(shown) & ~np.isin(numbers, list(self.strays))
        self.starts, self.ends = [], []
        for begin, stop in zip(self.first, [*self.first[1:], numbers[-1] + 1], strict=True):
            inside = good & (numbers >= begin) & (numbers < stop)
            lasts = np.where(lasting[inside] > 0, lasting[inside], _interval(shown[inside]))
            self.starts.append(float(shown[inside].min()))
            self.ends.append(float((shown[inside] + lasts).max()))

    def jump(self, number: int) -> str:
        """Describe the jump at the start of run ``number``, for a message."""
        cut = self.cuts[number - 1]
        step = self.times[cut] - self.times[cut - 1]
        return f"the clock of the {self.kind} jumps {'ahead' if step > 0 else 'back'} by {abs(step):.4g} s at packet {self.first[number]}"

    def track(self, shifts: list[float]) -> Track:
        moved = self.added + np.asarray(shifts)[np.searchsorted(self.first, self.numbers, "right") - 1]
        changes = np.flatnonzero(np.diff(moved)) + 1
        parts = (ClockPart(0, float(moved[0])), *(ClockPart(int(self.numbers[place]), float(moved[place])) for place in changes))
        starts = [start + shift for start, shift in zip(self.starts, shifts, strict=True)]
        ends = [end + shift for end, shift in zip(self.ends, shifts, strict=True)]
        pauses = tuple((end, start) for end, start in zip(ends, starts[1:], strict=False) if start > end)
        return Track(starts[0], ends[-1], parts, self.strays, pauses)


def _cut(times: np.ndarray, tolerance: float, ahead: float) -> tuple[list[int], list[int]]:
    """Find the places of jumps and of strays in the times (N,) of packets in the order of the file."""
    cuts: list[int] = []
    strays: list[int] = []
    last, place = float(times[0]), 1
    while place < len(times):
        time = float(times[place])
        if not last - tolerance <= time <= last + min(STRAY_AHEAD, ahead):
            following = times[place + 1 : place + 1 + STRAY_PACKETS]
            returns = np.flatnonzero((following >= last - tolerance) & (following <= last + STRAY_AHEAD))
            if len(returns):
                strays.extend(range(place, place + 1 + int(returns[0])))
                place += 1 + int(returns[0])
                continue
            if not last - tolerance <= time <= last + ahead:
                cuts.append(place)
        last, place = time, place + 1
    return cuts, strays


def _interval(times: np.ndarray) -> float:
    """Median time between packets in seconds; 0 with fewer than two."""
    steps = np.diff(np.unique(times[~np.isnan(times)]))
    return float(np.median(steps)) if len(steps) else 0.0
