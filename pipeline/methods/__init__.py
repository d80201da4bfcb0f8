"""One paper per file, or per folder when it brings blocks of its own. Importing this package registers every method.

Every module in this folder is imported, so a new method is just a new file: there is no list to extend.
"""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.methods.base import METHODS, Method, MethodConfig, Progress, Recipe, create

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["METHODS", "Method", "MethodConfig", "Progress", "Recipe", "create"]
