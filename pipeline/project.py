"""Notice that a command runs outside a copy of the project, and say where one is."""

from __future__ import annotations

from pathlib import Path

MARK = "dvc.yaml"
HERE = Path(__file__).resolve().parents[1]


def elsewhere(directory: Path) -> str:
    """What to do if ``directory`` is not the root of a copy of the project; empty if it is."""
    if (directory / MARK).is_file():
        return ""
    near = next((above for above in (*directory.resolve().parents, HERE) if (above / MARK).is_file()), None)
    return "you are not in the project: " + (f"cd {near}" if near else f"change to its root, where {MARK} is")
