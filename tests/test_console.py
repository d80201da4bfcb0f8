"""The frame around every stage and command, tested in separate processes with real streams and signals."""

import os
import subprocess
import sys
import textwrap

import pytest

from pipeline import __main__ as program
from pipeline.commands import table
from pipeline.console import console
from pipeline.errors import PipelineError
from tests.wording import says

ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(sys.path), "PYTHONUNBUFFERED": ""}


def run(script, *, shell="{python}", **environment):
    """(exit code, stdout, stderr), bytes read as Latin-1, of a script; ``shell`` is how it is called."""
    command = ["bash", "-c", "set -o pipefail; " + shell.format(python='"$0" -c "$1"'), sys.executable, textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, encoding="latin-1", env={**ENVIRONMENT, **environment}, check=False)
    return done.returncode, done.stdout, done.stderr


STAGE = """
    import sys
    from pipeline.stage import run
    sys.argv = ["report"]
    def body():
        {body}
    run("report", body)
"""
COMMAND = """
    import sys
    from pipeline import __main__ as program
    from pipeline.commands import table
    sys.argv = ["pipeline", "table"]
    table.results = lambda: {text}
    program.main()
"""


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "script", [STAGE.format(body="for _ in range(100000): print('a line of the table')"), COMMAND.format(text='"a line\\n" * 200000')]
)
def test_a_reader_that_has_gone_is_no_fault(script):
    code, out, err = run(script, shell="{python} | head -1")
    assert (code, err) == (141, "")
    assert out.startswith("a line")
    assert out.count("\n") == 1


def test_help_and_what_is_left_in_the_buffer_end_as_quietly():
    one = STAGE.format(body="print('one line')")
    assert run(one, shell="{python} | true")[::2] in {(141, ""), (0, "")}
    code, _, err = run(one, shell="{python} > >(exec 0<&-; sleep 0.1)")
    assert (code in {0, 141}, err) == (True, "")


def test_a_broken_pipe_of_another_kind_is_not_taken_for_it():
    code, _, err = run(STAGE.format(body="raise BrokenPipeError('of a child process')"))
    assert code == 1
    assert "BrokenPipeError: of a child process" in err


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_any_text_can_be_printed_in_any_locale(environment):
    script = STAGE.format(body="print('85.1 \\u00b1 0.3 \\u2713'); print('\\u00b1 \\u2713', file=sys.stderr)")
    code, out, err = run(script, **environment)
    assert code == 0, err
    assert out.startswith("85.1 ")
    assert out.endswith("\\u2713\n")  # no letter of ASCII or Latin-1
    code, out, err = run(COMMAND.format(text="'85.1 \\u00b1 0.3 \\u2713'"), **environment)
    assert code == 0, err
    assert "\\u2713" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_output_that_cannot_be_written_is_one_sentence():
    code, _, err = run(STAGE.format(body="print('a line')"), shell="{python} > /dev/full")
    assert code == 1
    assert err.count("\n") == 1
    assert says(err, "report: ", "No space left on device")
    code, _, err = run(STAGE.format(body="for _ in range(100000): print('a line')"), shell="{python} > /dev/full")
    assert (code, err.count("\n"), "Traceback" in err) == (1, 1, False)


def test_a_stream_that_is_closed_does_not_matter():
    assert run(STAGE.format(body="print('a line')"), shell="{python} >&-") == (0, "", "")


def test_ctrl_c_is_told_and_has_its_code():
    code, _, err = run(STAGE.format(body="raise KeyboardInterrupt"))
    assert code == 130
    assert err.count("\n") == 1
    assert says(err, "report: interrupted")


def test_sigterm_ends_a_command_by_the_way_that_removes_temporary_files(tmp_path):
    script = """
        import os, signal, sys
        from pipeline import __main__ as program
        from pipeline.commands import table
        from pipeline.scratch import Scratch
        sys.argv = ["pipeline", "table"]
        def results():
            with Scratch("work-", "PLACE"):
                os.kill(os.getpid(), signal.SIGTERM)
                import time; time.sleep(30)
        table.results = results
        program.main()
    """.replace('"PLACE"', f"__import__('pathlib').Path({str(tmp_path)!r})")
    code, out, err = run(script)
    assert (code, out, err) == (143, "", "")
    assert not list(tmp_path.glob("work-*"))


def test_a_fault_that_is_no_users_keeps_its_traceback(capsys):
    with pytest.raises(KeyError), console("x: ", 1, "interrupted"):
        raise KeyError("a fault")
    with pytest.raises(SystemExit) as stop, console("x: ", 3, "interrupted"):
        raise PipelineError("what to do")
    assert stop.value.code == 3
    assert capsys.readouterr().err == "x: what to do\n"


def test_the_table_is_put_into_a_text_of_any_line_ends_and_the_text_is_never_half_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "results", lambda: "| a ± b |\n")
    monkeypatch.setattr(sys, "argv", ["pipeline", "table", "--into", "notes.md"])
    notes = tmp_path / "notes.md"
    notes.write_bytes("\ufeffé\r\n<!-- results -->\r\nold\r\n<!-- /results -->\r\nend\r\n".encode())
    notes.chmod(0o640)
    program.main()
    written = notes.read_bytes().decode()
    assert written == "\ufeffé\r\n<!-- results -->\n| a ± b |\n<!-- /results -->\r\nend\r\n"
    assert notes.stat().st_mode & 0o777 == 0o640
    notes.write_bytes("é\n<!-- results -->\n<!-- /results -->\n".encode("latin-1"))
    before = notes.read_bytes()
    with pytest.raises(SystemExit):
        program.main()
    assert says(capsys.readouterr().err, "notes.md: 1 problem", "line 1: ", "0xe9")
    assert notes.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]
