"""Published features -> an ordinary feature store."""

from pipeline.features.importing.importer import Import
from pipeline.features.importing.settings import ImportSet, Source

__all__ = ["Import", "ImportSet", "Source"]
