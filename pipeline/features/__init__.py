"""Features of clips: extraction, the store, the import of published features, and the features of any file."""

from typing import Any

__all__ = ["encode"]


def __getattr__(name: str) -> Any:
    """Import ``encode`` when it is first asked for; it brings torch along."""
    if name == "encode":
        from pipeline.features.files import encode

        return encode
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
