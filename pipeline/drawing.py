"""Set up matplotlib to draw without a screen and to draw every text literally."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

matplotlib.rcParams["text.parse_math"] = False  # a "$" in a user's name of a class or file must not start a formula

METADATA = {"Software": None}  # leaves the version out of the PNG, so the same numbers give the same file

__all__ = ["METADATA", "plt"]
