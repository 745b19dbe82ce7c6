"""What a newcomer is told who mistypes a command, or asks for what cannot be."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.progress import Progress
from typer.main import get_group

from tests.cli.test_refusals import in_process
from tests.cli.test_resources import DECLARATION
from watertight.cli import proving
from watertight.cli.app import app
from watertight.model.starter import STARTER


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("veryfy", "Did you mean `verify`?"),
        ("Up", "Did you mean `up`?"),
        ("deploy", "`watertight --help` lists them."),
        ("logs", "`.watertight/logs/SERVICE.app.log`"),
        ("stop", "`watertight down` stops the system."),
    ],
)
def test_a_misspelt_command_is_told_which_was_meant(typed: str, says: str) -> None:
    said = in_process(typed, expect=2).stderr
    text = " ".join(said.replace("│", " ").split())
    assert f"There is no command `{typed}`." in text
    assert says in text


def test_a_finding_shows_its_line_and_marks_its_column(tmp_path: Path) -> None:
    file = tmp_path / "watertight.yaml"
    file.write_text("trust_domain: x.internal\nservices:\n\tweb: {}\n" + "a" * 300 + "\n")
    lines = in_process("lint", str(file), expect=1).stdout.splitlines()
    assert lines[1:3] == ["    3 | →web: {}", "      | ^"]
    file.write_text("x: 1\ntrust_domain: " + "x" * 90 + " " * 60 + "!y # " + "z" * 90 + "\n")
    lines = in_process("lint", str(file), expect=1).stdout.splitlines()
    shown = next(n for n, line in enumerate(lines) if line.startswith("    2 | "))
    assert len(lines[shown]) == 108
    mark = lines[shown + 1].index("^")
    assert lines[shown][mark] in "x!"


def test_one_of_a_thing_is_said_in_the_singular(tmp_path: Path) -> None:
    (tmp_path / "watertight.yaml").write_text(STARTER)
    assert "2 services, 1 channel: no error, 0 warnings." in (
        in_process("lint", str(tmp_path), expect=0).stderr
    )


def test_lint_warns_of_what_up_refuses(tmp_path: Path) -> None:
    file = tmp_path / "watertight.yaml"
    file.write_text(STARTER.replace("run: [python3,", "run: [pyton3,", 1))
    [warning] = json.loads(in_process("lint", str(file), "-o", "json", expect=0).stdout)["findings"]
    assert (warning["code"], warning["line"], warning["column"]) == ("WT-W1441", 10, 11)
    refused = in_process("up", str(file), "-o", "json", expect=3)
    errors = json.loads(refused.stdout)["error"]["findings"]
    # That somebody listens on the gateway's port here is another.
    [error] = [one for one in errors if one["code"] != "WT-E1446"]
    assert (error["code"], error["line"], error["severity"]) == ("WT-E1441", 10, "error")
    assert not (tmp_path / ".watertight").exists()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "watertight.yaml"
    path.write_text(DECLARATION.replace("kind: nats, external", "kind: nats, external"))
    return str(path)


@pytest.mark.parametrize(
    ("asked", "expect", "says"),
    [
        ("orders orders-db", 0, "grants `tables orders select`."),
        ("orders orders-db select orders", 0, "grants `select on table public.orders`."),
        ("orders orders-db SELECT public.orders", 0, "grants `select on table public.orders`."),
        ("orders orders-db delete orders", 1, "does not grant `delete orders`"),
        ("orders orders-db fetch orders", 2, "is no use of a resource of kind `postgresql`"),
        ("orders events publish orders.placed", 0, "grants `publish orders.placed`."),
        ("orders events publish payments", 1, "does not grant `publish payments`"),
        ("orders events subscribe orders.placed", 1, "does not grant"),
        ("quiet orders-db select orders", 1, "No channel `quiet -> orders-db` is declared."),
        ("orders-db orders", 1, "is a resource; only services open channels."),
    ],
)
def test_explain_knows_databases_and_brokers(file: str, asked: str, expect: int, says: str) -> None:
    assert says in in_process("explain", *asked.split(), "-f", file, expect=expect).stdout


@pytest.mark.parametrize(
    ("asked", "expect", "says"),
    [
        ("orders orders-db delete", 2, "`delete` what? The channel `orders -> orders-db` grants"),
        ("orders orders-db select", 2, "`watertight explain orders orders-db select TABLE`"),
        ("orders orders-db frobnicate", 2, "is no use of a resource of kind `postgresql`"),
        ("orders events subscribe", 2, "`watertight explain orders events subscribe SUBJECT`"),
        ("orders events frobnicate", 2, "is no use of a resource of kind `nats`"),
        ("quiet events publish", 1, "No channel `quiet -> events` is declared."),
    ],
)
def test_explain_allows_no_use_that_is_half_said(
    file: str, asked: str, expect: int, says: str
) -> None:
    done = in_process("explain", *asked.split(), "-f", file, expect=expect)
    assert says in " ".join(done.output.split())


def test_explain_takes_a_grant_that_has_no_object(tmp_path: Path) -> None:
    file = tmp_path / "watertight.yaml"
    file.write_text(
        DECLARATION.replace("tables: {orders: [select]}}", "temporary: true, tables: {}}", 1)
    )
    done = in_process("explain", "orders", "orders-db", "temporary", "-f", str(file), expect=0)
    assert "grants `temporary`." in done.stdout


def test_explain_names_all_there_is_where_nothing_is_near(file: str) -> None:
    said = in_process("explain", "aaa", "orders", "-f", file, expect=2).stdout
    assert "There are: `gateway`, `orders`, `outside`, `quiet`." in said


def test_a_refused_argument_is_told_without_the_librarys_words(file: str) -> None:
    said = in_process("rotate", "foo", "-f", file, expect=2).stderr
    assert "'foo' is not one of 'leaf', 'issuer', 'root'." in " ".join(said.split())
    assert "Value error" not in said


def test_env_of_nobody_lists_who_there_is(file: str) -> None:
    said = in_process("env", "zzz", "-f", file, expect=2).stderr
    assert "There are: `orders`, `quiet`." in said


def test_what_goes_into_a_pipe_is_not_wrapped() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    ask = (
        "from watertight.cli.output import print_table\n"
        "print_table(('A', 'B'), [('a' * 90, 'word ' * 40)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2, done.stdout


def test_where_no_bar_is_shown_progress_is_told_in_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    told = threading.Event()

    def say(message: str) -> None:
        said.append(message)
        told.set()

    monkeypatch.setattr(proving, "PROGRESS_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(proving, "say", say)
    progress = Progress(disable=True)
    progress.add_task("attack", total=7, completed=2)
    with proving._told_in_lines(progress):
        assert told.wait(60)
    assert said[0] == "Attacking: 2 of 7 done."


@pytest.mark.parametrize(
    ("command", "status"),
    [("lint", 0), ("plan", 0), ("apply", 3), ("down", 3), ("status", 3), ("verify", 3)],
)
def test_the_file_is_an_argument_or_an_option(tmp_path: Path, command: str, status: int) -> None:
    file, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_text(STARTER)
    other.write_text(STARTER)
    as_argument = in_process(command, str(file), expect=status)
    for arguments in (["-f", str(file)], ["--file", str(file)], [str(file), "-f", str(file)]):
        assert in_process(command, *arguments, expect=status).output == as_argument.output
    refused = in_process(command, str(file), "-f", str(other), "-o", "json", expect=2)
    assert "Two declarations are named" in json.loads(refused.stdout)["error"]["message"]


def test_two_files_are_two_also_where_one_is_the_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("watertight.yaml").write_text(STARTER)
    Path("other.yaml").write_text("x")
    in_process("lint", "-f", "other.yaml", expect=1)
    in_process("lint", ".", "-f", "watertight.yaml", expect=0)
    in_process("lint", "watertight.yaml", "-f", "other.yaml", expect=2)
    in_process("up", "watertight.yaml", "-f", "other.yaml", expect=2)


def test_each_command_takes_the_file_as_an_option() -> None:
    for command in get_group(app).commands.values():
        options = {option for parameter in command.params for option in parameter.opts}
        assert command.name in {"init", "schema"} or {"-f", "--file"} <= options, command.name


def test_what_does_not_run_is_not_compared_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "watertight.yaml").write_text(STARTER)
    (tmp_path / ".watertight").mkdir(mode=0o700)
    (tmp_path / ".watertight/current.yaml").write_text("other")
    said = in_process("verify", str(tmp_path), expect=3).stderr
    assert "differs" not in said
    assert "The system is not running." in said


def test_what_does_not_run_is_stopped_without_a_word_of_starting_it(tmp_path: Path) -> None:
    (tmp_path / "watertight.yaml").write_text(STARTER)
    said = in_process("down", str(tmp_path), expect=3).stderr
    assert said == "error: Nothing runs here.\n"
