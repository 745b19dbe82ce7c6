"""The journal is always one whole state, whatever step the machine died at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.identity.world import (
    ORDERS,
    START,
    TRUST_DOMAIN,
    FakeClock,
    authority,
    kek,
    request,
)
from watertight.identity.authority import Authority
from watertight.identity.errors import DamagedState, IdentityError, KeyUnavailable
from watertight.identity.slots import Kind, Status

CRASHER = Path(__file__).parent / "crasher.py"


def state_file(directory: Path) -> Path:
    return directory / "authority" / "state.json"


def key_names(directory: Path) -> set[str]:
    return {f.stem for f in (directory / "authority" / "keys").iterdir()}


@pytest.mark.parametrize(
    "operation", ["create", "prepare_root", "activate_root", "rotate", "revoke"]
)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new(tmp_path: Path, operation: str) -> None:
    """A child process dies (``os._exit``) at its 1st, 2nd, 3rd … call that changes the disk."""
    done = subprocess.run(
        [sys.executable, str(CRASHER), operation, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    # Some deaths came before the commit and some after it, or the test has shown nothing.
    assert {o["after"] for o in outcomes} == {False, True}, outcomes
    assert len(outcomes) >= 5


def test_stray_keys_and_temporary_files_are_swept_on_open(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        wanted = {s.id for s in made.status().slots}
    keys = tmp_path / "authority" / "keys"
    (keys / "0123456789abcdef.key").write_text("left by a crash")
    (keys / ".x.key.00.tmp").write_text("half")
    (tmp_path / "authority" / ".state.json.00.tmp").write_text("half")
    with authority(tmp_path, FakeClock()):
        assert key_names(tmp_path) == wanted
    assert not list((tmp_path / "authority").glob(".*.tmp"))


def test_private_keys_of_old_authorities_are_destroyed(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        made.prepare_root()
        made.activate_root(made.bundle().sequence)
        live = {s.id for s in made.status().slots if s.status is not Status.OLD}
        old = {s.id for s in made.status().slots if s.status is Status.OLD}
    assert key_names(tmp_path) == live
    assert len(old) == 2


def test_no_private_key_is_ever_on_the_disk_in_the_clear(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        made.issue(request())
        for slot in made.status().slots:
            sealed = (tmp_path / "authority" / "keys" / f"{slot.id}.key").read_bytes()
            assert json.loads(sealed)["format"].startswith("watertight.sealed/1")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert file.stat().st_mode & 0o077 == 0, file
            assert b"PRIVATE KEY" not in file.read_bytes()
        else:
            assert file.name != "authority" or file.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.rstrip()[:-40],
        lambda text: text.replace("active", "prepared", 1),
        lambda text: text.replace(TRUST_DOMAIN, "evil.internal"),
        lambda text: text.replace("watertight.authority/1", "watertight.authority/2"),
        lambda text: "[]",
    ],
)
def test_a_damaged_state_is_refused_and_not_overwritten(tmp_path: Path, damage: object) -> None:
    with authority(tmp_path, FakeClock()):
        pass
    file = state_file(tmp_path)
    assert callable(damage)
    file.write_text(damage(file.read_text()))
    before = file.read_bytes()
    with pytest.raises(DamagedState), authority(tmp_path, FakeClock()):
        pass
    assert file.read_bytes() == before


def test_a_missing_or_swapped_key_is_refused(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        slots = {s.kind: s.id for s in made.status().slots}
    keys = tmp_path / "authority" / "keys"
    root, issuer = keys / f"{slots[Kind.ROOT]}.key", keys / f"{slots[Kind.ISSUER]}.key"
    original = issuer.read_bytes()
    issuer.write_bytes(root.read_bytes())
    with pytest.raises(KeyUnavailable), authority(tmp_path, FakeClock()):
        pass
    issuer.unlink()
    with pytest.raises(DamagedState, match="missing"), authority(tmp_path, FakeClock()):
        pass
    issuer.write_bytes(original)
    with authority(tmp_path, FakeClock()) as made:
        assert made.issue(request())


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with authority(tmp_path, FakeClock()) as made:
        before, bundle = state_file(tmp_path).read_bytes(), made.bundle()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr("watertight.identity.files.os.fsync", full)
            for change in (made.prepare_root, made.prepare_issuer):
                with pytest.raises(IdentityError, match="No space"):
                    change()
        assert made.bundle() == bundle
        assert state_file(tmp_path).read_bytes() == before
        made.prepare_root()
        assert len(made.bundle().authorities) == 2


def test_reopens_with_exactly_what_was_committed(tmp_path: Path) -> None:
    now = FakeClock(START)
    with authority(tmp_path, now) as made:
        made.prepare_root()
        made.revoke(ORDERS)
        before = made.status()
    with Authority.open(tmp_path / "authority", kek=kek(tmp_path), now=now) as again:
        assert again.status() == before
