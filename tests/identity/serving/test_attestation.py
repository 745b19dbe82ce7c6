"""A caller is who the process tree and its uid say, and nobody else ever."""

import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.identity.serving import processes
from watertight.identity import attestation
from watertight.identity.attestation import (
    AttestationError,
    Peer,
    Process,
    ProcessTreeAttestor,
    peer_of,
    start_ticks,
)

UID = os.geteuid()


def root_of(started: subprocess.Popen[str]) -> Process:
    return Process(started.pid, start_ticks(started.pid))


@pytest.fixture
def door(short: Path) -> Iterator[tuple[Path, socket.socket]]:
    path = short / "door.sock"
    with processes.listening(path) as server:
        yield path, server


@contextmanager
def connected(server: socket.socket) -> Iterator[Peer]:
    with processes.accept(server) as connection, peer_of(connection) as peer:
        yield peer


def test_the_root_of_a_tree_is_its_workload(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path) as started, connected(server) as peer:
        attestor.admit("orders", root_of(started), {UID})
        assert peer.pid == started.pid
        assert attestor.attest(peer) == "orders"


def test_a_descendant_is_its_workload(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.grandparent(path) as started, connected(server) as peer:
        attestor.admit("orders", root_of(started), {UID})
        assert peer.pid != started.pid
        assert attestor.attest(peer) == "orders"


def test_an_orphan_stays_in_the_tree_of_its_reaper(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.subreaper(path) as started, connected(server) as peer:
        attestor.admit("orders", root_of(started), {UID})
        assert attestor.attest(peer) == "orders"
        os.kill(peer.pid, signal.SIGKILL)


@pytest.mark.skipif(not processes.namespaces_allowed(), reason="the kernel allows no namespaces")
def test_a_process_in_namespaces_of_its_own_is_seen_from_here(
    door: tuple[Path, socket.socket],
) -> None:
    """Inside it has another pid and is uid 0; an orphan there belongs to its first process."""
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.sandboxed_orphan(path) as started, connected(server) as peer:
        assert peer.uid == UID
        with pytest.raises(AttestationError, match="descends from no workload"):
            attestor.attest(peer)
        attestor.admit("orders", root_of(started), {UID})
        assert attestor.attest(peer) == "orders"
        os.kill(peer.pid, signal.SIGKILL)


def test_an_impostor_outside_of_every_tree_is_refused(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with ExitStack() as stack:
        elsewhere = stack.enter_context(processes.process("import sys; sys.stdin.read()"))
        attestor.admit("orders", root_of(elsewhere), {UID})
        stack.enter_context(processes.caller(path))
        peer = stack.enter_context(connected(server))
        with pytest.raises(AttestationError, match="descends from no workload"):
            attestor.attest(peer)


def test_two_workloads_are_told_apart(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with (
        processes.caller(path) as one,
        connected(server) as first,
        processes.caller(path) as two,
        connected(server) as second,
    ):
        attestor.admit("orders", root_of(one), {UID})
        attestor.admit("payments", root_of(two), {UID})
        assert (attestor.attest(first), attestor.attest(second)) == ("orders", "payments")


def test_a_reused_pid_is_not_the_workload(door: tuple[Path, socket.socket]) -> None:
    """The id is the admitted one, but that process has ended and another one has the id now."""
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path) as started, connected(server) as peer:
        earlier = Process(started.pid, root_of(started).start_ticks - 1)
        attestor.admit("orders", earlier, {UID})
        with pytest.raises(AttestationError, match="descends from no workload"):
            attestor.attest(peer)


def test_a_caller_that_ended_is_refused_even_if_its_id_lives_on(
    door: tuple[Path, socket.socket],
) -> None:
    """The pidfd is the caller's own; the id alone would point at a process of the workload."""
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path) as honest, connected(server) as genuine:
        attestor.admit("orders", root_of(honest), {UID})
        with processes.caller(path) as gone, connected(server) as peer:
            gone.kill()
            gone.wait()
            reused = Peer(genuine.pid, peer.uid, peer.gid, peer.pidfd)
            with pytest.raises(AttestationError, match="has ended"):
                attestor.attest(reused)
        assert attestor.attest(genuine) == "orders"


def test_a_caller_that_ended_before_it_was_accepted_is_refused(
    door: tuple[Path, socket.socket],
) -> None:
    path, server = door
    with processes.caller(path) as gone, processes.accept(server) as connection:
        gone.kill()
        gone.wait()
        with pytest.raises(AttestationError, match="has ended"), peer_of(connection) as peer:
            ProcessTreeAttestor().attest(peer)


def test_a_withdrawn_workload_has_no_identity(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path) as started, connected(server) as peer:
        attestor.admit("orders", root_of(started), {UID})
        attestor.withdraw("orders")
        attestor.withdraw("never-known")
        with pytest.raises(AttestationError, match="descends from no workload"):
            attestor.attest(peer)


def test_an_unexpected_uid_is_refused(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path) as started, connected(server) as peer:
        attestor.admit("orders", root_of(started), {UID + 1})
        with pytest.raises(AttestationError, match=rf"as uid {UID}.*Expected uid: {UID + 1}"):
            attestor.attest(peer)


@pytest.mark.root
@pytest.mark.skipif(not processes.is_root(), reason="only root may start processes of other uids")
def test_the_uid_is_the_callers_own(door: tuple[Path, socket.socket]) -> None:
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path, uid=12345) as started, connected(server) as peer:
        assert peer.uid == 12345
        attestor.admit("orders", root_of(started), {0})
        with pytest.raises(AttestationError, match="as uid 12345"):
            attestor.attest(peer)
        attestor.admit("orders", root_of(started), {12345})
        assert attestor.attest(peer) == "orders"


def _stat(proc: Path, pid: int, parent: int, start: int, name: str = "x") -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    fields = ["S", str(parent), *["0"] * 17, str(start), "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


@pytest.fixture
def ourselves() -> Iterator[Peer]:
    """A live pidfd, so that a /proc of the test's own making is what decides."""
    pidfd = os.pidfd_open(os.getpid())
    yield Peer(30, UID, UID, pidfd)
    os.close(pidfd)


def test_a_parent_younger_than_its_child_is_a_stranger(tmp_path: Path, ourselves: Peer) -> None:
    """The parent ended, and its id went to a process that we have admitted since."""
    _stat(tmp_path, 30, parent=20, start=100)
    _stat(tmp_path, 20, parent=1, start=101)
    _stat(tmp_path, 1, parent=0, start=1)
    attestor = ProcessTreeAttestor(tmp_path)
    attestor.admit("orders", Process(20, 101), {UID})
    with pytest.raises(AttestationError, match="does not hold still"):
        attestor.attest(ourselves)


class Shifting(type(Path())):  # type: ignore[misc]  # Path's own class is known at run time only
    """A /proc in which process 20 is another one at each look."""

    looks = itertools.count()

    def read_bytes(self) -> bytes:
        data: bytes = super().read_bytes()
        if self.parent.name == "20":
            data = data.replace(b" 50 ", f" {50 + next(self.looks) % 2} ".encode())
        return data


def test_a_tree_that_changes_while_it_is_read_is_not_believed(
    tmp_path: Path, ourselves: Peer
) -> None:
    """Each look at the parent finds another process: the id is used again and again."""
    _stat(tmp_path, 30, parent=20, start=100)
    _stat(tmp_path, 20, parent=0, start=50)
    attestor = ProcessTreeAttestor(Shifting(tmp_path))
    attestor.admit("orders", Process(20, 50), {UID})
    with pytest.raises(AttestationError, match="does not hold still"):
        attestor.attest(ourselves)


def test_a_process_name_cannot_forge_its_status(tmp_path: Path, ourselves: Peer) -> None:
    _stat(tmp_path, 30, parent=1, start=100, name=f"a) S 20 {'0 ' * 17}5 (b")
    _stat(tmp_path, 20, parent=1, start=5)
    _stat(tmp_path, 1, parent=0, start=1)
    attestor = ProcessTreeAttestor(tmp_path)
    attestor.admit("orders", Process(20, 5), {UID})
    with pytest.raises(AttestationError, match="descends from no workload"):
        attestor.attest(ourselves)


def test_a_circle_of_parents_ends(tmp_path: Path, ourselves: Peer) -> None:
    _stat(tmp_path, 30, parent=20, start=100)
    _stat(tmp_path, 20, parent=30, start=100)
    with pytest.raises(AttestationError, match="descends from no workload"):
        ProcessTreeAttestor(tmp_path).attest(ourselves)


def test_the_inner_of_two_trees_decides(tmp_path: Path, ourselves: Peer) -> None:
    _stat(tmp_path, 30, parent=20, start=100)
    _stat(tmp_path, 20, parent=10, start=50)
    _stat(tmp_path, 10, parent=0, start=10)
    attestor = ProcessTreeAttestor(tmp_path)
    attestor.admit("outer", Process(10, 10), {UID})
    attestor.admit("inner", Process(20, 50), {UID})
    assert attestor.attest(ourselves) == "inner"


def test_start_ticks_of_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="cannot be read"):
        start_ticks(30, tmp_path)


def test_a_kernel_without_peer_pidfds_attests_too(
    door: tuple[Path, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.5 the option is unknown, as this number is to every kernel."""
    monkeypatch.setattr(attestation, "SO_PEERPIDFD", 9999)
    path, server = door
    attestor = ProcessTreeAttestor()
    with processes.caller(path) as started, connected(server) as peer:
        attestor.admit("orders", root_of(started), {UID})
        assert attestor.attest(peer) == "orders"
    with processes.caller(path) as gone, processes.accept(server) as connection:
        gone.kill()
        gone.wait()
        with pytest.raises(AttestationError, match="has ended"), peer_of(connection):
            pass
