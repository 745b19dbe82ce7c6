"""Directories: made private, never taken from somebody else; users; the lock."""

import json
import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from tests.runtime.programs import idler, server, system_of
from watertight.model.system import Channel, System
from watertight.runtime.capabilities import HostCapabilities, Isolation
from watertight.runtime.files import UntrustedDirectoryError, own_directory
from watertight.runtime.layout import SocketPathTooLongError, lay_out, look
from watertight.runtime.lock import AlreadyRunningError, only_one
from watertight.runtime.uids import (
    BLOCK,
    BrokenUserRecordError,
    TooManyUsersError,
    Users,
    allotted,
    keep,
)

ORDINARY = HostCapabilities(Isolation.USER_NAMESPACES)
SYSTEM = system_of(idler("orders"))


def mode(path: Path) -> int:
    """Permission bits."""
    return path.stat().st_mode & 0o777


def test_everything_is_private(home: Path) -> None:
    """The state beside the declaration, the run directory, and a link between the two."""
    layout = lay_out(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    assert mode(layout.state) == 0o700
    assert mode(layout.run) == 0o700
    assert mode(layout.pod("orders")) == 0o700
    assert (layout.state / "run").readlink() == layout.run
    again = lay_out(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    assert again.run == layout.run


def test_git_passes_the_state_over(home: Path) -> None:
    """Also where the directory was there before; a file that somebody changed stays."""

    def git(*arguments: str) -> str:
        command = ["/usr/bin/env", "git", "-C", str(home / "project"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    lay_out(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    (home / "project/.watertight/kek.json").write_text("secret", encoding="utf-8")
    git("add", ".")
    assert git("ls-files") == "watertight.yaml\n"
    ignored = home / "project/.watertight/.gitignore"
    ignored.write_text("mine", encoding="utf-8")
    lay_out(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    assert ignored.read_text(encoding="utf-8") == "mine"


def test_two_declarations_have_two_run_directories(home: Path) -> None:
    """Whatever their names."""
    (home / "other").mkdir()
    (home / "other/watertight.yaml").write_text("#", encoding="utf-8")
    first = lay_out(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    second = lay_out(home / "other/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    assert first.run != second.run


def test_a_trap_is_not_stepped_into(home: Path) -> None:
    """A link, a file, a directory that others may write."""
    (home / "link").symlink_to("/etc")
    (home / "file").write_text("", encoding="utf-8")
    (home / "shared").mkdir(mode=0o777)
    (home / "shared").chmod(0o777)
    for name, why in {
        "link": "not a directory",
        "file": "not a directory",
        "shared": "others may write",
    }.items():
        with pytest.raises(UntrustedDirectoryError, match=why):
            own_directory(home / name)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another user's directory")
def test_another_users_directory_is_not_taken(home: Path) -> None:
    """As somebody may leave under /tmp."""
    (home / "r").mkdir()
    os.chown(home / "r", 65534, 65534)
    with pytest.raises(UntrustedDirectoryError, match="belongs to user 65534"):
        lay_out(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")


def test_a_socket_that_cannot_be_bound_is_told_beforehand(home: Path) -> None:
    """Two names that are too long together."""
    names = ("a" * 50, "b" * 50)
    services = {name: server(name, 8000) for name in names}
    system = System("t.internal", services, channels=(Channel(*names),))
    with pytest.raises(SocketPathTooLongError, match=r"takes 107.*shorter service names"):
        lay_out(home / "project/watertight.yaml", system, ORDINARY, base=home / "r")


def allocate(record: Path, system: str, workloads: list[str]) -> Users:
    users = allotted(record, system, workloads)
    keep(record, users)
    return users


def test_to_look_makes_nothing(home: Path) -> None:
    """Also not in a system that runs: a declaration that is refused leaves no trace."""
    look(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")
    assert not (home / "r").exists()
    assert not (home / "project/.watertight").exists()
    users = allotted(home / "users.json", "/a", ["orders"])
    assert not (home / "users.json").exists()
    assert users.app("orders").uid > users.proxies


def test_what_somebody_else_prepared_is_not_looked_into(home: Path) -> None:
    (home / "r").mkdir()
    (home / "r").chmod(0o777)
    with pytest.raises(UntrustedDirectoryError, match="others may write in it"):
        look(home / "project/watertight.yaml", SYSTEM, ORDINARY, base=home / "r")


def test_users_are_stable_and_never_given_away(tmp_path: Path) -> None:
    """A service that comes gets a new number, one that goes keeps its own."""
    record = tmp_path / "users.json"
    first = allocate(record, "/a", ["orders", "payments"])
    numbers = {first.app("orders").uid, first.proxy("orders").uid, first.app("payments").uid}
    assert len(numbers) == 3
    assert first.proxy("orders").gid == first.proxy("payments").gid == first.proxies
    assert first.proxies not in {*numbers, first.app("orders").gid}
    allocate(record, "/a", ["zebra"])
    later = allocate(record, "/a", ["aardvark", "orders"])
    assert later.app("orders") == first.app("orders")
    assert later.app("aardvark").uid not in numbers
    assert allocate(tmp_path / "b.json", "/b", []).proxies != first.proxies
    assert mode(record) == 0o600


def test_a_record_of_users_that_names_root_is_not_believed(tmp_path: Path) -> None:
    """A number outside our range would be somebody's."""
    record = tmp_path / "users.json"
    for content in ('{"proxies": 0}', '{"proxies": 1900000000, "app:orders": 0}', "[", "[]"):
        record.write_text(content, encoding="utf-8")
        with pytest.raises(BrokenUserRecordError):
            allocate(record, "/a", ["orders"])


def test_a_block_of_users_ends(tmp_path: Path) -> None:
    """It does not run into the next system's."""
    with pytest.raises(TooManyUsersError):
        allocate(tmp_path / "users.json", "/a", [f"s{n}" for n in range(BLOCK // 2)])
    assert not (tmp_path / "users.json").exists()
    allocate(tmp_path / "users.json", "/a", [f"s{n}" for n in range(BLOCK // 2 - 1)])
    assert len(json.loads((tmp_path / "users.json").read_bytes())) == BLOCK - 1


def _try_to_hold(state: Path, answer: "multiprocessing.queues.Queue[str]") -> None:
    try:
        with only_one(state):
            answer.put("held")
    except AlreadyRunningError as error:
        answer.put(str(error))


def test_a_second_control_process_is_told_about_the_first(tmp_path: Path) -> None:
    """By its pid; when the first ends, the second may."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()

    def other() -> str:
        process = context.Process(target=_try_to_hold, args=(tmp_path, answer))
        process.start()
        said: str = answer.get(timeout=30)
        process.join()
        process.close()
        return said

    with only_one(tmp_path):
        assert f"process {os.getpid()}" in other()
    assert other() == "held"
    answer.close()
    answer.join_thread()
