"""Draw audio-guided spatial attention over pictures, as in Figure 5 of the CACE-Net paper and Figure 7 of AVEL's.

A weight is shown as a multiple of the even share (1 / number of positions). One colour scale serves all pictures: it runs from the even
share (nothing drawn) to the largest weight, or to twice the even share if that is larger, so nearly even attention looks nearly even.
The parts of a picture that the encoder crops away are darkened.

Shape letters: P pictures, T segments, h x w positions, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from PIL import Image

from pipeline.drawing import plt
from pipeline.encoders.images import visible_share
from pipeline.media.movie import Form, Scene, write_movie
from pipeline.report.captions import captioned

COLOURS = ListedColormap(colormaps["inferno"](np.linspace(0.25, 1.0, 256)))  # its darkest end would read as shade
STRENGTH = 0.72  # opacity of the largest weight
UNSEEN = 0.45  # brightness of the parts that the encoder crops away
ROW = 5  # pictures side by side
FILM = Form(crf=23, sound_rate=44_100, sound_bits=96_000, repeatable=False)


@dataclass(frozen=True)
class AttendedScene:
    """A piece of a film; letters: F frames, L samples.

    pictures: (F, H, W, 3) uint8, the same size in all scenes of a film.
    captions: F lines of text.
    waveform: (L,) float32 in [-1, 1] at ``sample_rate`` Hz, as long as the pictures.
    attention: (F, h, w), the weights of each frame; None: nothing is drawn.
    """

    pictures: np.ndarray
    captions: Sequence[str]
    waveform: np.ndarray
    sample_rate: int
    attention: np.ndarray | None = None


def ceiling(attention: np.ndarray) -> float:
    """The top of the colour scale: the largest of the weights (T, h, w) in even shares, at least 2."""
    return max(2.0, float(attention.max(initial=0.0)) * attention.shape[-2] * attention.shape[-1])


def overlay(picture: np.ndarray, weights: np.ndarray, transform: Mapping[str, Any], top: float) -> np.ndarray:
    """Draw weights (h, w) over a picture (H, W, 3) uint8; returns (H, W, 3) uint8.

    Args:
        transform: the visual encoder's transform, see :func:`pipeline.encoders.images.visible_share`.
        top: end of the colour scale, see :func:`ceiling`.
    """
    height, width = picture.shape[:2]
    tall, wide = visible_share(transform, height, width)
    rows, columns = max(1, round(tall * height)), max(1, round(wide * width))
    first, left = (height - rows) // 2, (width - columns) // 2
    shares = Image.fromarray((weights * weights.size).astype(np.float32))
    strength = np.clip((np.asarray(shares.resize((columns, rows), Image.Resampling.BILINEAR)) - 1) / (top - 1), 0, 1)
    alpha = (STRENGTH * np.sqrt(strength))[..., None]
    result = picture * UNSEEN
    seen = picture[first : first + rows, left : left + columns]
    result[first : first + rows, left : left + columns] = (1 - alpha) * seen + alpha * 255 * COLOURS(strength)[..., :3]
    return result.round().astype(np.uint8)


def strip(
    path: Path, pictures: np.ndarray, attention: np.ndarray, transform: Mapping[str, Any], captions: Sequence[str], title: str = ""
) -> None:
    """Write P pictures with their attention as a PNG, five side by side.

    Args:
        pictures: (P, H, W, 3) uint8.
        attention: (P, h, w), summing to 1 over the positions.
        transform: the visual encoder's transform.
        captions: P lines of text, one below each picture.
    """
    top = ceiling(attention)
    rows, columns = -(-len(pictures) // ROW), min(ROW, len(pictures))
    width = 2.2
    height = width * pictures.shape[1] / pictures.shape[2] + 0.32
    head, foot = 0.4 if title else 0.08, 0.55
    total, across = head + foot + rows * height, max(4.4, columns * width) + 0.2
    figure = plt.figure(figsize=(across, total))
    if title:
        figure.text(0.1 / across, 1 - 0.1 / total, title, va="top", fontsize=11, weight="bold")
    for number, (picture, weights, caption) in enumerate(zip(pictures, attention, captions, strict=True)):
        row, column = divmod(number, ROW)
        place = (0.1 + column * width + 0.03, foot + (rows - 1 - row) * height + 0.27, width - 0.06, height - 0.32)
        axes = figure.add_axes((place[0] / across, place[1] / total, place[2] / across, place[3] / total))
        axes.imshow(overlay(picture, weights, transform, top))
        axes.set_axis_off()
        axes.text(0.5, -0.03, caption, transform=axes.transAxes, ha="center", va="top", fontsize=8)
    scale = figure.add_axes((0.1 / across + 0.25, 0.36 / total, 0.5, 0.09 / total))
    bar = figure.colorbar(ScalarMappable(Normalize(1, top), COLOURS), cax=scale, orientation="horizontal")
    height, width = pictures.shape[1:3]
    cropped = visible_share(transform, height, width) != (1.0, 1.0)
    bar.set_label(f"attention, in even shares{'; dark edges: cropped away, never seen' if cropped else ''}", fontsize=8, labelpad=1)
    bar.ax.tick_params(labelsize=7, length=2, pad=1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    plt.close(figure)
    # A palette takes a third of the bytes; MAXCOVERAGE keeps rare colours such as those of the scale. Chosen from a ninth of the pixels
    # it comes as close, six times as fast.
    few = picture.resize((max(1, picture.width // 3), max(1, picture.height // 3)), Image.Resampling.NEAREST)
    palette = few.quantize(colors=256, method=Image.Quantize.MAXCOVERAGE)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, format="PNG", optimize=True)


def movie(path: Path, scenes: Iterable[AttendedScene], transform: Mapping[str, Any], top: float, frames_per_second: Fraction) -> None:
    """Write a film with its attention, sound and captions as an MP4.

    Args:
        scenes: the film in pieces, all of one picture size; only one is held in memory at a time.
        transform: the visual encoder's transform.
        top: end of the colour scale for the whole film, see :func:`ceiling`.
    """
    drawn = (Scene(_drawn(piece, transform, top), piece.waveform, piece.sample_rate) for piece in scenes)
    write_movie(path, drawn, frames_per_second, FILM)


def _drawn(piece: AttendedScene, transform: Mapping[str, Any], top: float) -> Iterator[np.ndarray]:
    """Yield the scene's pictures one by one, with attention and caption."""
    for number, (picture, caption) in enumerate(zip(piece.pictures, piece.captions, strict=True)):
        attended = picture if piece.attention is None else overlay(picture, piece.attention[number], transform, top)
        yield captioned(attended, caption)
