"""Draw the timeline of one clip: its pictures, its loudness, and for each class truth, prediction and score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MultipleLocator

from pipeline.drawing import METADATA, plt
from pipeline.report.bars import CORRECT, FALSE, MISSED, PREDICTED, TRUE, UNKNOWN, Bar, segment_bars, span_bars
from pipeline.report.preview import PEAK_SECONDS, Preview
from pipeline.tasks.lanes import Lane
from pipeline.tasks.tracks import TrackName, Tracks, in_words, runs

WIDTH, THUMBNAILS, SOUND, LANE = 11.0, 0.75, 0.45, 0.42  # inches: of the figure, and the heights of a panel's parts
LEFT, RIGHT = 1.7, 0.3  # inches beside the axes
PANEL_SECONDS, MOST_PANELS = 60.0, 6
MOST_LANES, FEWEST_LANES = 8, 3

Truth = Mapping[TrackName, np.ndarray]


SCORE = "#9ecae1"


def draw(
    path: Path, tracks: Tracks, preview: Preview, segment_seconds: float, *, truth: Truth | None = None,
    judged: Sequence[Lane] | None = None, title: str = "",
) -> None:  # fmt: skip
    """Write the timeline of one clip or file as a PNG, folded into panels of a minute or more.

    Args:
        tracks: decisions and scores, T segments.
        preview: its pictures and loudness.
        segment_seconds: length of a segment.
        truth: (T, C) bool for each track with known truth.
        judged: likewise for tracks with spans (``found``): true and judged spans, which are drawn with their own borders.
    """
    panels = list(_panels(tracks, truth, segment_seconds))
    head, foot, gap = 0.45 if title else 0.15, 0.75, 0.45
    total = head + foot + sum(panel.height for panel in panels) + (len(panels) - 1) * gap
    figure = plt.figure(figsize=(WIDTH, total))
    if title:
        figure.text(LEFT / WIDTH, 1 - 0.12 / total, title, va="top", fontsize=11, weight="bold")
    top = total - head
    for panel in panels:
        axes = []
        for height in panel.heights:
            top -= height
            axes.append(figure.add_axes((LEFT / WIDTH, top / total, (WIDTH - LEFT - RIGHT) / WIDTH, height / total)))
            axes[-1].set_xlim(*panel.span)
        _draw_pictures(axes[0], preview, panel.span, segment_seconds, (WIDTH - LEFT - RIGHT) / THUMBNAILS)
        _draw_sound(axes[1], preview, panel.span)
        _draw_lanes(axes[2], panel, judged, segment_seconds)
        axes[2].xaxis.set_major_locator(MultipleLocator(_tick(panel.span[1] - panel.span[0], segment_seconds)))
        axes[2].xaxis.set_major_formatter(FuncFormatter(lambda moment, _: clock(moment)))
        top -= gap
    _legend(figure, tracks, truth, sum(panel.left_out for panel in panels))
    figure.savefig(path, dpi=100, metadata=METADATA)
    plt.close(figure)


@dataclass(frozen=True)
class _Panel:
    """A part of the picture that covers the seconds [begin, end).

    tracks, truth: of the segments inside.
    lanes: the (track, class) pairs shown; left_out: number of lanes with an event that had no room.
    """

    begin: float
    end: float
    tracks: Tracks
    truth: Truth | None
    lanes: list[tuple[TrackName, int]]
    left_out: int

    @property
    def span(self) -> tuple[float, float]:
        return self.begin, self.end

    @property
    def heights(self) -> tuple[float, float, float]:
        """Heights of the pictures, the sound and the lanes, in inches."""
        return THUMBNAILS, SOUND, LANE * max(1, len(self.lanes))

    @property
    def height(self) -> float:
        return sum(self.heights)


def _panels(tracks: Tracks, truth: Truth | None, segment_seconds: float) -> Iterator[_Panel]:
    """Yield one panel for a minute or less, else several of a minute or more.

    Each of several panels has the lanes with an event in it.
    """
    seconds = len(tracks) * segment_seconds
    if seconds <= PANEL_SECONDS:
        yield _Panel(0.0, seconds, tracks, truth, *shown_lanes(tracks, truth, FEWEST_LANES))
        return
    segments = math.ceil(PANEL_SECONDS * math.ceil(seconds / (PANEL_SECONDS * MOST_PANELS)) / segment_seconds - 1e-9)
    for first in range(0, len(tracks), segments):
        inside = slice(first, first + segments)
        part, known = tracks.part(inside), {name: true[inside] for name, true in truth.items()} if truth is not None else None
        yield _Panel(first * segment_seconds, (first + segments) * segment_seconds, part, known, *shown_lanes(part, known, 1))


def shown_lanes(tracks: Tracks, truth: Truth | None, fewest: int) -> tuple[list[tuple[TrackName, int]], int]:
    """Choose the lanes to draw.

    Returns:
        (track, class) of each lane: those with an event, by first moment, then the highest scores until there are ``fewest``;
        and the number of lanes with an event that had no room.
    """
    first: dict[tuple[TrackName, int], int] = {}
    for name, decided in tracks.active.items():
        active = decided | truth[name] if truth and name in truth else decided
        first |= {(name, int(number)): int(active[:, number].argmax()) for number in np.flatnonzero(active.any(axis=0))}
    eventful = sorted(first, key=lambda lane: (first[lane], lane[1], lane[0]))
    peaks = {(name, number): float(peak) for name, scores in tracks.scores.items() for number, peak in enumerate(scores.max(axis=0))}
    others = sorted((lane for lane in peaks if lane not in first), key=lambda lane: -peaks[lane])
    lanes = eventful[:MOST_LANES]
    return lanes + others[: max(0, fewest - len(lanes))], len(eventful) - len(lanes)


def clock(seconds: float) -> str:
    """Format seconds as 0:07, 12:30 or 1:00:00, with tenths if there are any."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    text = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{minutes // 60}:{minutes % 60:02d}:{text}" if minutes >= 60 else f"{minutes}:{text}"


def _tick(span: float, segment_seconds: float) -> float:
    """Seconds between labels on the time axis, about twelve of them."""
    return next((step for step in (segment_seconds, 1, 2, 5, 10, 15, 30, 60, 120) if span / step <= 13), 300.0)


def _draw_pictures(axes: Any, preview: Preview, span: tuple[float, float], segment_seconds: float, aspect: float) -> None:
    """Draw as many pictures as fit, each at the middle of its segment.

    The strip is ``aspect`` times as wide as high.
    """
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    if not len(preview.segments):
        return
    share = preview.pictures.shape[2] / preview.pictures.shape[1] / aspect  # of the strip's width
    width = share * (span[1] - span[0])
    moments = (preview.segments + 0.5) * segment_seconds
    free = -math.inf
    for moment, picture in zip(moments, preview.pictures, strict=True):
        left = min(max(moment - width / 2, span[0]), span[1] - width)
        if span[0] <= moment < span[1] and left >= free - 1e-6:
            axes.imshow(picture, extent=(left, left + width, 0.04, 1.0), aspect="auto", interpolation="bilinear")
            free = left + width * 1.02
    axes.set_xlim(*span)
    axes.set_ylim(0, 1)


def _draw_sound(axes: Any, preview: Preview, span: tuple[float, float]) -> None:
    first, last = (int(edge / PEAK_SECONDS) for edge in span)
    peaks = preview.peaks[first:last] / max(1e-6, float(preview.peaks.max(initial=0.0)))
    columns = min(len(peaks), 1500)
    if columns:
        peaks = np.maximum.reduceat(peaks, np.linspace(0, len(peaks), columns, endpoint=False).astype(int))
        moments = span[0] + np.linspace(0, min(last, len(preview.peaks)) - first, columns, endpoint=False) * PEAK_SECONDS
        axes.fill_between(moments, -peaks, peaks, color="#555555", linewidth=0)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([0], ["sound"], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _draw_lanes(axes: Any, panel: _Panel, judged: Sequence[Lane] | None, segment_seconds: float) -> None:
    """Draw one lane per class and track from the top: truth (if known), prediction, and score from 0 to 1."""
    tracks, truth, lanes = panel.tracks, panel.truth, panel.lanes
    edges = panel.begin + np.arange(len(tracks) + 1) * segment_seconds
    true_at, predicted_at, score_height = (0.68, 0.38, 0.30) if truth is not None else (0.0, 0.55, 0.46)
    height = 0.24 if truth is not None else 0.36
    for row, (name, number) in enumerate(lanes):
        base = len(lanes) - 1 - row
        scores = tracks.scores[name][:, number]
        axes.stairs(base + 0.03 + scores * score_height, edges, baseline=base + 0.03, fill=True, color=SCORE, linewidth=0)
        if tracks.found is None:
            known = truth[name][:, number] if truth and name in truth else None
            true, answers = segment_bars(tracks.active[name][:, number], known, edges)
        else:
            true, answers = span_bars(tracks, judged, name, number, segment_seconds)
        for bars, at in ((true, true_at), (answers, predicted_at)):
            for bar in bars:
                _draw_bar(axes, bar, base + at, height)
        axes.axhline(base, color="#cccccc", linewidth=0.6)
    for first, end in runs(~tracks.valid):
        axes.add_patch(Rectangle((edges[first], 0), edges[end] - edges[first], max(1, len(lanes)), **UNKNOWN.patch(), zorder=0))
    axes.set_ylim(0, max(1, len(lanes)))
    names = [f"{_short(tracks.classes[number])}\n({in_words(name)})" for name, number in lanes]
    axes.set_yticks([len(lanes) - 0.5 - row for row in range(len(lanes))], names, fontsize=8, linespacing=0.95)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_bar(axes: Any, bar: Bar, base: float, height: float) -> None:
    """Draw a bar in its share of the height, if it is in the axes' span of time."""
    style, (begin, end) = bar.style, axes.get_xlim()
    if bar.end <= begin or end <= bar.start:
        return
    share = height / bar.levels
    base += (bar.levels - 1 - bar.level) * share
    axes.add_patch(Rectangle((bar.start, base), bar.end - bar.start, share if bar.levels == 1 else 0.85 * share, **style.patch()))
    if style.symbol and bar.levels == 1 and (bar.end - bar.start) > 0.012 * (end - begin):
        ink = "white" if style is CORRECT else "black"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.3} if style is FALSE else None
        middle = (max(bar.start, begin) + min(bar.end, end)) / 2
        axes.text(middle, base + height / 2, style.symbol, ha="center", va="center", fontsize=7, color=ink, bbox=box, clip_on=True)


def _short(name: str) -> str:
    """Shorten a class name to fit beside the lanes."""
    return name if len(name) <= 22 else f"{name[:21].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def _legend(figure: Any, tracks: Tracks, truth: Truth | None, left_out: int) -> None:
    styles = [PREDICTED] if truth is None else [TRUE, CORRECT, MISSED, FALSE]
    if not tracks.valid.all():
        styles.append(UNKNOWN)
    handles = [Patch(**style.patch(), label=f"{style.name} {style.symbol}".strip()) for style in styles]
    handles.append(Patch(color=SCORE, label="score, 0 to 1"))
    if left_out:
        handles.append(Patch(color="none", label=f"and {left_out} more lanes with events"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8, handlelength=2.5, handleheight=1.1)
