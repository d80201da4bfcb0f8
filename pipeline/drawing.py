"""matplotlib as this project uses it: without a screen, and with every text drawn as it is written."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

matplotlib.rcParams["text.parse_math"] = False  # names of classes, rows and files are the user's: a "$" in one starts no formula

METADATA = {"Software": None}  # no version in the PNG: the same numbers give the same file

__all__ = ["METADATA", "plt"]
