"""Which program ``run`` means, and what must be visible for it to run."""

import sys
from pathlib import Path

import pytest

from watertight.model.system import Position
from watertight.runtime.programs import ProgramNotFoundError, find_program, needed_by, search_path

AT = Position("watertight.yaml", 7, 5)


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    """A file that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_python_is_the_one_that_runs_us(tmp_path: Path) -> None:
    """Whatever the shell's PATH says; the venv's link is not resolved, for it means the venv."""
    found = find_program("python", tmp_path, search_path({"PATH": "/usr/bin"}), AT)
    assert found.parent == (Path(sys.prefix) / "bin").resolve()
    assert found.name == "python"


def test_a_path_is_relative_to_the_services_directory(tmp_path: Path) -> None:
    """As a shell there would take it."""
    program = executable(tmp_path / "bin" / "serve")
    assert find_program("bin/serve", tmp_path, "", AT) == program.resolve()


@pytest.mark.parametrize("name", ["no-such-program", "./serve", "."])
def test_what_is_not_there_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    """Not found, not executable, a directory given as a path."""
    (tmp_path / "serve").write_text("not executable", encoding="utf-8")
    with pytest.raises(ProgramNotFoundError, match=r"watertight\.yaml:7:5: no program"):
        find_program(name if name != "." else "./", tmp_path, str(tmp_path), AT)


def test_a_virtual_environment_needs_its_base(tmp_path: Path) -> None:
    """The venv, the interpreter's prefix behind each link, and what .pth files add."""
    base = tmp_path / "home" / "pyenv" / "3.11"
    executable(base / "bin" / "python3.11", "\x7fELF")
    (base / "lib").mkdir()
    alias = tmp_path / "home" / "pyenv" / "current"
    alias.symlink_to(base)
    editable = tmp_path / "elsewhere" / "src"
    editable.mkdir(parents=True)
    venv = tmp_path / "project" / ".venv"
    site = venv / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (site / "mine.pth").write_text(f"{editable}\nimport sys\n", encoding="utf-8")
    (venv / "pyvenv.cfg").write_text(f"home = {alias}/bin\n", encoding="utf-8")
    (venv / "bin").mkdir()
    (venv / "bin" / "python").symlink_to(alias / "bin" / "python3.11")
    script = executable(venv / "bin" / "uvicorn", f"#!{venv}/bin/python\n")
    assert set(needed_by(script)) == {venv, alias, base, editable}


def test_a_single_binary_needs_only_itself(tmp_path: Path) -> None:
    """Not the directory in which it happens to lie."""
    program = executable(tmp_path / "downloads" / "server", "\x7fELF")
    assert needed_by(program) == (program,)


def test_a_personal_bin_does_not_show_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """~/.local has a bin and a lib, and keyrings beside them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    program = executable(tmp_path / ".local" / "bin" / "server", "\x7fELF")
    (tmp_path / ".local" / "lib").mkdir()
    assert needed_by(program) == (program,)


def test_a_script_needs_its_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by ``#!`` directly or through env; a circle of scripts ends."""
    node = executable(tmp_path / "node" / "bin" / "node", "\x7fELF")
    (tmp_path / "node" / "lib").mkdir()
    monkeypatch.setenv("PATH", str(node.parent))
    script = executable(tmp_path / "app" / "serve", "#!/usr/bin/env node\n")
    assert needed_by(script) == (script, Path("/usr/bin/env"), tmp_path / "node") or needed_by(
        script
    ) == (script, tmp_path / "node")
    circle = tmp_path / "circle"
    executable(circle, f"#!{circle}\n")
    assert needed_by(circle) == (circle,)
