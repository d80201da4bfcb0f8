"""A line of text in a band below a picture."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

BAND = 0.14  # height of the band of text, as a share of the picture's
FAINTEST_BAND = 26  # pixels


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """Add a band of text below a picture (H, W, 3) uint8; both sides come out even, as H.264 requires."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    band = max(FAINTEST_BAND, round(height * BAND / 2) * 2)
    return np.concatenate([picture[:height, :width], _band(caption, width, band)])


@lru_cache(maxsize=64)
def _band(text: str, width: int, height: int) -> np.ndarray:
    """White text on black, (height, width, 3) uint8; long text is set smaller."""
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    face = font_manager.findfont("DejaVu Sans")  # comes with matplotlib
    size = round(height * 0.5)
    font = ImageFont.truetype(face, size)
    while size > 8 and pen.textlength(text, font=font) > width - 12:
        size -= 1
        font = ImageFont.truetype(face, size)
    pen.text((6, height / 2), text, fill="white", font=font, anchor="lm")
    return np.asarray(image)
