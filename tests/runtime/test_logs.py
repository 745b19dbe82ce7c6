"""What processes say: kept within a size, printed without harm."""

import io
from pathlib import Path

from rich.console import Console

from watertight.runtime.logfile import RotatingLog, trim
from watertight.runtime.logs import LogFollower, printable


def test_only_whole_lines_are_written(tmp_path: Path) -> None:
    """A chunk that ends within a line waits for the rest; the last line is ended on closing."""
    log = RotatingLog(tmp_path / "a.log")
    log.write(b"one\ntw")
    assert (tmp_path / "a.log").read_bytes() == b"one\n"
    log.write(b"o\nthree")
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\nthree\n"


def test_a_line_that_never_ends_is_not_kept_in_memory(tmp_path: Path) -> None:
    """Beyond 64 KiB it is written as it is."""
    log = RotatingLog(tmp_path / "a.log")
    for _ in range(5):
        log.write(b"x" * 16384)
    assert (tmp_path / "a.log").stat().st_size >= 65536
    log.close()


def test_a_log_has_two_generations_of_bounded_size(tmp_path: Path) -> None:
    """A million lines later there are still two files."""
    log = RotatingLog(tmp_path / "a.log", limit_bytes=1000)
    for number in range(500):
        log.write(b"line %03d\n" % number)
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["a.log", "a.log.1"]
    assert all(f.stat().st_size <= 1000 for f in files)
    assert files[0].read_bytes().endswith(b"line 499\n")
    assert files[0].stat().st_mode & 0o777 == 0o600


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    """/dev/full takes nothing."""
    log = RotatingLog(Path("/dev/full"))
    log.write(b"lost\n")
    log.close()


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    """Whoever put it there."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "a.log").symlink_to(tmp_path / "victim")
    log = RotatingLog(tmp_path / "a.log")
    log.write(b"gone\n")
    log.close()
    assert (tmp_path / "victim").read_bytes() == b"precious"


def shown(follower: LogFollower, output: io.StringIO) -> list[str]:
    """What was printed since the last time."""
    output.seek(0)
    output.truncate()
    follower.print_new()
    return [line.strip() for line in output.getvalue().splitlines()]


def test_new_lines_are_printed_with_their_service(tmp_path: Path) -> None:
    """Not what was there before, not other processes, and across a rotation."""
    output = io.StringIO()
    console = Console(file=output, width=200)
    old = tmp_path / "orders.app.log"
    old.write_bytes(b"yesterday\n")
    follower = LogFollower(tmp_path, console, processes=("app",))
    with old.open("ab") as file:
        file.write(b"today\nhal")
    (tmp_path / "mailer.app.log").write_bytes(b"sent\n")
    (tmp_path / "mailer.proxy.log").write_bytes(b"not asked for\n")
    assert shown(follower, output) == ["mailer │ sent", "orders │ today"]
    with old.open("ab") as file:
        file.write(b"f\n")
    old.rename(tmp_path / "orders.app.log.1")
    (tmp_path / "orders.app.log").write_bytes(b"new\n")
    assert shown(follower, output) == ["orders │ half", "orders │ new"]
    assert shown(follower, output) == []


def test_a_log_cannot_drive_the_terminal(tmp_path: Path) -> None:
    """Titles, cursor moves and markup are data."""
    assert printable(b"\x1b[31mred\x1b[0m") == "red"
    assert (
        printable(b"\x1b]0;owned\x07")
        == "\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}"
    )
    output = io.StringIO()
    follower = LogFollower(tmp_path, Console(file=output, width=200), processes=("app",))
    (tmp_path / "a.app.log").write_bytes(b"[bold]plain[/bold]\n")
    assert shown(follower, output) == ["a │ [bold]plain[/bold]"]


def test_a_log_that_others_append_to_is_emptied_in_time(tmp_path: Path) -> None:
    """What was in it is kept once; who writes goes on with the same descriptor."""
    path = tmp_path / "up.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 1001)
        assert trim(path, limit_bytes=1000)
        assert not trim(path, limit_bytes=1000)
        writer.write(b"after")
    assert path.read_bytes() == b"after"
    assert path.with_name("up.log.1").stat().st_size == 1001
    assert not trim(tmp_path / "missing")
