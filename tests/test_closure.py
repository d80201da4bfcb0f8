"""Import closures, on a project made up for the test, and of the real methods against what Python loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.closure import PLUMBING, REGISTRIES, ROOT, closure, digests
from pipeline.methods import METHODS

FILES = {
    "stages/work.py": (
        "import numpy\nfrom pipeline.training import loop\nfrom pipeline.methods import METHODS, Method\nimport pipeline.errors\n"
    ),
    "pipeline/__init__.py": "",
    "pipeline/errors.py": "from pipeline.only_errors import x\n",
    "pipeline/only_errors.py": "",
    "pipeline/training/__init__.py": '"""A docstring alone."""\n',
    "pipeline/training/loop.py": "from . import data\nfrom .deep.inner import f\n\ndef f():\n    import pipeline.late\n",
    "pipeline/training/data.py": (
        "import typing\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pipeline.never import x\n"
        "if typing.TYPE_CHECKING:\n    import pipeline.never\nelse:\n    import pipeline.otherwise\n"
    ),
    "pipeline/training/deep/__init__.py": "from pipeline import from_init\n",
    "pipeline/training/deep/inner.py": "from pipeline.training.loop import f  # in a circle\n",
    "pipeline/from_init.py": "",
    "pipeline/late.py": "",
    "pipeline/never.py": "",
    "pipeline/otherwise.py": "",
    "pipeline/methods/__init__.py": "from pipeline.methods.base import METHODS, Method\nfrom pipeline.methods import first, second\n",
    "pipeline/methods/base.py": "",
    "pipeline/methods/first.py": "from pipeline.methods.base import METHODS\nfrom pipeline.layers.shared import block\n",
    "pipeline/methods/second.py": "",
    "pipeline/layers/shared.py": "",
}


@pytest.fixture
def root(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def names(root, *starts, **options):
    return [path.as_posix() for path in closure(map(Path, starts), root, **options)]


def test_a_stage_has_what_it_imports_and_no_entry_of_a_registry(root):
    assert names(root, "stages/work.py") == [
        *("pipeline/from_init.py", "pipeline/late.py", "pipeline/methods/base.py", "pipeline/otherwise.py", "pipeline/training/data.py"),
        *("pipeline/training/deep/__init__.py", "pipeline/training/deep/inner.py", "pipeline/training/loop.py", "stages/work.py"),
    ]


def test_plumbing_is_left_out_with_what_it_alone_imports(root):
    found = {*names(root, "stages/work.py", cut=())}
    assert found - {*names(root, "stages/work.py")} == {"pipeline/errors.py", "pipeline/only_errors.py"}


def test_an_entry_of_a_registry_brings_its_own_alone(root):
    assert names(root, "pipeline/methods/first.py") == [
        "pipeline/layers/shared.py",
        "pipeline/methods/base.py",
        "pipeline/methods/first.py",
    ]
    assert names(root, str(root / "pipeline/methods/first.py")) == names(root, "pipeline/methods/first.py")


def test_a_package_counts_once_it_does_something(root):
    assert "pipeline/training/__init__.py" not in names(root, "stages/work.py")
    (root / "pipeline/training/__init__.py").write_text('"""Now more."""\nX = 1\n', encoding="utf-8")
    assert "pipeline/training/__init__.py" in names(root, "stages/work.py")


def test_digests_follow_the_files(root):
    before = digests([Path("pipeline/methods/first.py")], root)
    (root / "pipeline/layers/shared.py").write_text("# other\n", encoding="utf-8")
    (root / "pipeline/methods/second.py").write_text("# other\n", encoding="utf-8")
    after = digests([Path("pipeline/methods/first.py")], root)
    assert [path for path in after if after[path] != before[path]] == ["pipeline/layers/shared.py"]
    assert all(len(digest) == 64 for digest in after.values())


def test_a_file_from_elsewhere_counts_with_what_it_imports(root, tmp_path_factory):
    plugin = tmp_path_factory.mktemp("plugin") / "method.py"
    plugin.write_text("from pipeline.layers.shared import block\n", encoding="utf-8")
    assert names(root, str(plugin)) == sorted([str(plugin), "pipeline/layers/shared.py"])


def test_plumbing_is_there_and_has_reasons():
    assert all((ROOT / path).is_file() for path in (*PLUMBING, *REGISTRIES))
    assert all(len(reason.split()) >= 5 for reason in PLUMBING.values())


LOAD = """
import importlib, json, sys, types
import torch
registries = ["pipeline.methods", "pipeline.tasks", "pipeline.encoders", "pipeline.datasets"]
loaded = {}
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "pipeline"]:
        del sys.modules[name]
    import pipeline
    for name in registries:  # a package whose __init__ does not run
        stub = sys.modules[name] = types.ModuleType(name)
        stub.__path__ = [pipeline.__path__[0] + "/" + name.split(".")[1]]
    importlib.import_module(module)
    own = [each for name, each in sys.modules.items() if name.split(".")[0] == "pipeline" and getattr(each, "__file__", None)]
    loaded[module] = sorted({each.__file__ for each in own})
print(json.dumps(loaded))
"""


def test_the_closure_of_every_method_is_what_python_loads_for_it():
    """Methods import at the top only, so both sets are equal apart from plumbing and empty packages."""
    modules = sorted({METHODS.get(name).__module__ for name in METHODS.names()})
    done = subprocess.run([sys.executable, "-c", LOAD, *modules], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    for module, files in json.loads(done.stdout).items():
        loaded = {Path(file).relative_to(ROOT).as_posix() for file in files}
        found = {path.as_posix() for path in closure([Path(*module.split(".")).with_suffix(".py")], cut=())}
        assert loaded == found | {path for path in loaded if path.endswith("/__init__.py")}, module
        assert len(found) > 5
