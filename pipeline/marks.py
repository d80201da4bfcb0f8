"""Text that commands write between two marks of a file, ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from __future__ import annotations

import codecs
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.publish import write_text
from pipeline.text import read_text


def between(text: str, mark: str, where: str) -> tuple[str, str, str]:
    """Cut a text at its marks: up to the line of the first, between them, and from the second on.

    Args:
        where: name of the text, for the error.

    Raises:
        PipelineError: the marks do not stand in it, once each.
    """
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(end) < text.index(start):
        raise PipelineError(f"{where}: needs the lines {start} and {end}, once each")
    before, rest = text.split(start)
    inside, after = rest.split(end)
    return f"{before}{start}\n", inside.lstrip("\r\n"), end + after


def insert(path: Path, mark: str, text: str) -> None:
    """Replace the text between the two marks of a text file, which is never left half written."""
    content = read_text(path) if path.is_file() else ""
    before, _, after = between(content, mark, str(path))
    mark_of_bytes = "\ufeff" if path.read_bytes().startswith(codecs.BOM_UTF8) else ""  # kept, because some editors need it
    write_text(path, f"{mark_of_bytes}{before}{text}{after}")
