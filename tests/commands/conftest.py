"""What the tests of commands share."""

import sys

import pytest

from pipeline import __main__ as program


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        """(exit code, stdout, stderr)."""
        monkeypatch.setattr(sys, "argv", ["python -m pipeline", *map(str, arguments)])
        try:
            program.main()
            code = 0
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run
