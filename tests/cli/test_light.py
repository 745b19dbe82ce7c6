"""Short commands import little: what each of them does not need, it does not wait for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from watertight.cli.app import COMMANDS, load
from watertight.model.starter import STARTER

HEAVY = (
    *("asyncio", "cryptography", "envoy", "grpc", "h2", "httpx", "psycopg", "starlette"),
    *("structlog", "uvicorn", "xds"),
)
UNCHECKED = (
    *("yaml", "watertight.attack", "watertight.dataplane", "watertight.enforcers"),
    *("watertight.model.load", "watertight.servers", "watertight.verify"),
)
"""What a command needs that reads the declaration."""
ASK = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from watertight.cli import main
main()
"""


def imported(folder: Path, *arguments: str) -> set[str]:
    """The modules that are loaded when the command has ended."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watertight.yaml").write_text(STARTER)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ("--version", (*UNCHECKED, "pydantic", "rich.table")),
        ("--help", UNCHECKED),
        ("status", UNCHECKED),
        ("down", UNCHECKED),
        ("lint", ()),
        ("explain web orders GET /orders", ()),
        ("init elsewhere", ()),
    ],
)
def test_a_short_command_imports_little(
    folder: Path, arguments: str, more: tuple[str, ...]
) -> None:
    loaded = imported(folder, *arguments.split())
    assert loaded & {*HEAVY, *more} == set()


def test_a_heavy_command_would_be_seen(folder: Path) -> None:
    assert "cryptography" in imported(folder, "verify")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_they_say(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert str(command.help).partition("\n")[0].strip() == COMMANDS[name].help
