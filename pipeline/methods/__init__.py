"""One paper per file, or per folder when it brings blocks of its own. Importing this package registers every method.

Every module below this folder is imported: a new method is a new file, and no list names it.
"""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.methods.base import METHODS, Method, MethodConfig, Progress, Recipe, create

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["METHODS", "Method", "MethodConfig", "Progress", "Recipe", "create"]
