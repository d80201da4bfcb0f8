"""``python -m pipeline --help``: every command, and nothing heavy."""

import subprocess
import sys

from pipeline.__main__ import COMMANDS, main

HEAVY = ("torch", "torchvision", "av", "matplotlib", "h5py")


def test_help_imports_nothing_heavy(repository):
    script = f"""
import sys
from pipeline.__main__ import main
sys.argv = ["python -m pipeline", "--help"]
try:
    main()
except SystemExit as exit:
    assert exit.code == 0
print("HEAVY:", [name for name in {HEAVY} if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, encoding="utf-8", check=True)
    assert ran.stdout.splitlines()[-1] == "HEAVY: []"


def test_help_names_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["python -m pipeline", "--help"])
    try:
        main()
    except SystemExit:
        out = capsys.readouterr().out
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        assert f"\n{name} " in out, name  # in the list with examples
        assert f"\n    {name}" in out, name  # among argparse's commands
