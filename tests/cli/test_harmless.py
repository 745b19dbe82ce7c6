"""What others wrote drives no terminal, whichever way it is shown."""

import io

import pytest
from rich.markup import escape

from watertight.cli import output

HOSTILE = "esc\x1b[31mRED\x1b[0m\x1b]0;PWNED c1\x9b31m bidi\u202e"
SHOWN = "esc�[31mRED�[0m�]0;PWNED c1�31m bidi�"


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What both consoles write to, as a pipe or as a terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: request.param)
    for name, to_stderr in (("stdout", False), ("stderr", True)):
        console = output._console(to_stderr=to_stderr)
        console.file, console.width = stream, 200
        monkeypatch.setattr(output, name, console)
    return stream


def test_what_is_said(written: io.StringIO) -> None:
    output.say(HOSTILE)
    output.stderr.print(f"[red]error:[/red] {escape(HOSTILE)}")
    assert written.getvalue().count(SHOWN) == 2


def test_a_table(written: io.StringIO) -> None:
    output.print_table(["name"], [[f"{HOSTILE}\nFAKE: all is well"]])
    assert f"{SHOWN}�FAKE" in written.getvalue()


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": HOSTILE})
    written = capsys.readouterr().out
    assert written.isascii()
    assert written.replace("\n", "").isprintable()


def test_one_line_is_one() -> None:
    assert output.one_line("a\nb\rc\u2028d") == "a�b�c�d"
