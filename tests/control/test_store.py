"""What is remembered survives, and is private."""

from pathlib import Path

import pytest

from watertight.control.store import RecordUnreadable, Store
from watertight.model.load import load_text
from watertight.model.starter import STARTER


def test_nothing_is_in_force_before_the_first_time(tmp_path: Path) -> None:
    assert Store(tmp_path).current() is None


def test_what_was_in_force_is_known_again(tmp_path: Path) -> None:
    system = load_text(STARTER)
    Store(tmp_path).set_current(system)
    again = Store(tmp_path).current()
    assert again is not None
    assert {c.name for c in again.channels} == {c.name for c in system.channels}
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())


def test_roots_are_written_only_when_they_change(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.set_roots(b"one")
    before = (tmp_path / "ca.pem").stat().st_ino
    store.set_roots(b"one")
    assert (tmp_path / "ca.pem").stat().st_ino == before
    store.set_roots(b"two")
    assert (tmp_path / "ca.pem").read_bytes() == b"two"


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "current.yaml").write_text("services: [")
    with pytest.raises(RecordUnreadable, match="remove it"):
        Store(tmp_path).current()
