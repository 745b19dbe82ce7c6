"""A revocation is in force at once and is written down, also where somebody keeps the disk full."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.identity.world import ORDERS, FakeClock, authority, request
from watertight.identity.authority import Authority
from watertight.identity.errors import IssuanceRefused, NotWrittenDown
from watertight.identity.keeper import SVIDKeeper
from watertight.identity.set_aside import POOL_BYTES, STEP_BYTES, Pool, SetAside

PROGRAM = Path(__file__).with_name("on_full_disk.py")
SCRIPT = """
mount -t tmpfs -o size=20m,mode=0700 none {directory}
exec {python} {program} {directory}
"""


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.root
def test_it_is_written_down_while_somebody_takes_every_block(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small disk")
    script = SCRIPT.format(python=sys.executable, program=PROGRAM, directory=tmp_path)
    done = subprocess.run(
        ["/usr/bin/unshare", "-m", "sh", "-c", script],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "room": False,
        "room_after": False,
        "revoked": True,
        "rotated": 6,
        "issues": 2,
    }


@pytest.mark.parametrize(
    ("broken", "forgotten"),
    [("os.fsync", True), ("journal.Journal.commit", True), ("audit.AuditLog.record", False)],
)
def test_what_cannot_be_written_down_is_in_force_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, *, forgotten: bool
) -> None:
    with authority(tmp_path, FakeClock()) as made:
        keeper, state = SVIDKeeper(made, ["orders"]), tmp_path / "authority" / "state.json"
        with monkeypatch.context() as disk:
            disk.setattr(broken if broken == "os.fsync" else f"watertight.identity.{broken}", full)
            with pytest.raises(NotWrittenDown, match="No space") as told:
                keeper.revoke("orders")
            assert told.value.forgotten is forgotten
            assert (str(ORDERS) not in state.read_text()) is forgotten
            assert made.revoked == {ORDERS}
            assert keeper.x509_svid("orders") is None
            with pytest.raises(NotWrittenDown):
                made.tick()
        for issue in (
            lambda: made.issue(request("orders")),
            lambda: made.issue_jwt_svid(ORDERS, ["a"]),
        ):
            with pytest.raises(IssuanceRefused, match="revoked"):
                issue()
        made.tick()
        assert str(ORDERS) in state.read_text()
        before = state.stat().st_mtime_ns
        made.revoke(ORDERS)
        assert state.stat().st_mtime_ns == before
    log = (tmp_path / "authority" / "audit.jsonl").read_text().splitlines()
    lines = [line for line in log if json.loads(line)["event"] == "authority_revocations"]
    assert lines
    assert json.loads(lines[-1])["revoked"] == [str(ORDERS)]


def test_a_restore_that_cannot_be_written_down_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authority(tmp_path, FakeClock()) as made:
        made.revoke(ORDERS)
        with monkeypatch.context() as disk:
            disk.setattr("watertight.identity.files.os.fsync", full)
            with pytest.raises(Exception, match="No space"):
                made.restore(ORDERS)
        assert made.revoked == {ORDERS}


def test_a_file_is_replaced_within_its_blocks(tmp_path: Path) -> None:
    file, spare = tmp_path / "a", tmp_path / "a.spare"
    kept = SetAside(file)
    kept.replace(b"first")
    blocks = {file.stat().st_ino, spare.stat().st_ino}
    kept.replace(b"second")
    assert {file.stat().st_ino, spare.stat().st_ino} == blocks
    assert file.read_bytes() == b"second".ljust(STEP_BYTES, b"\n")
    assert (file.stat().st_mode & 0o777, spare.stat().st_mode & 0o777) == (0o600, 0o600)
    long = b"x" * (3 * STEP_BYTES)
    kept.replace(long)
    assert file.read_bytes().rstrip() == long
    assert file.stat().st_size == spare.stat().st_size == 6 * STEP_BYTES


def test_a_spare_with_holes_or_of_another_size_is_none(tmp_path: Path) -> None:
    file, spare = tmp_path / "a", tmp_path / "a.spare"
    SetAside(file).replace(b"first")
    for size in (STEP_BYTES, 10):
        spare.unlink()
        with spare.open("wb") as sparse:
            sparse.truncate(size)
        SetAside(file).replace(b"second")
        assert file.read_bytes().rstrip() == b"second"
        assert spare.stat().st_blocks * 512 >= STEP_BYTES


def test_without_an_exchange_of_names_it_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watertight.identity.set_aside._LIBC", object())
    kept = SetAside(tmp_path / "a")
    for text in (b"first", b"second", b"third"):
        kept.replace(text)
        assert (tmp_path / "a").read_bytes().rstrip() == text
    assert (tmp_path / "a.spare").exists()


def test_what_is_removed_leaves_its_block_and_nothing_in_it(tmp_path: Path) -> None:
    pool, file = Pool(tmp_path / "room", 2), tmp_path / "a"
    pool.prepare()
    blocks = {spare.stat().st_ino for spare in (tmp_path / "room").iterdir()}
    for text in (b"secret", b"x" * POOL_BYTES):
        pool.write(file, text)
        assert file.read_bytes().rstrip() == text
        assert file.stat().st_mode & 0o777 == 0o600
        pool.remove(file)
        spares = list((tmp_path / "room").iterdir())
        assert {spare.stat().st_ino for spare in spares} == blocks
        assert not any(spare.read_bytes().strip() for spare in spares)
    pool.write(file, b"x" * (POOL_BYTES + 1))
    assert file.stat().st_size == POOL_BYTES + 1
    pool.remove(file)
    assert not file.exists()


def test_a_state_of_an_earlier_version_gets_its_room_when_it_is_opened(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()):
        pass
    directory = tmp_path / "authority"
    state = directory / "state.json"
    (directory / "state.json.spare").unlink()
    state.write_bytes(state.read_bytes().rstrip())
    with authority(tmp_path, FakeClock()) as made:
        assert isinstance(made, Authority)
        assert state.stat().st_size == (directory / "state.json.spare").stat().st_size == STEP_BYTES
